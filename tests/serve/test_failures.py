"""What a client is told of what went wrong, and what only the log is."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeship
from edgeship.engine.api import Limits, check_tokens
from edgeship.engine.opening import Room, why_cut
from edgeship.errors import (
    ConstraintInvalid,
    ContextFull,
    EdgeshipError,
    EngineBusy,
    EngineFailed,
    NotFound,
    OriginRefused,
    PackageNotFound,
    PromptInvalid,
    RequestInvalid,
    TemplateInvalid,
    UsageError,
)
from edgeship.package import DAMAGED, template
from edgeship.serve import failures
from edgeship.system.child import Died


@pytest.mark.parametrize("status", [-9, 1])
def test_the_last_words_of_a_models_process_are_for_the_log(status: int, caplog: pytest.LogCaptureFixture) -> None:
    died = Died(status, ["cannot read /srv/models/secret"])
    error = died.as_error(EngineFailed, "the engine's process")
    error.__cause__ = died
    assert failures.as_ours(error) is error
    assert "secret" not in str(failures.document("/v1/chat/completions", error))
    assert error.http_status >= 500
    assert "secret" in caplog.text
    assert caplog.records[0].exc_info is None, "where the end of a process was noticed says nothing"


def test_what_a_client_can_mend_or_wait_for_is_told_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for error in (PromptInvalid("it is empty"), EngineBusy("all wait")):
            assert error.what in failures.told(error)
            failures.as_ours(error)
    assert not caplog.records


def hints() -> Iterator[str]:
    """Every hint that is written in the source; what is filled in later stands as a word."""
    for path in Path(edgeship.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "hint" and (text := written(node.value)):
                yield text


def written(node: ast.expr) -> str:
    """The text that an expression makes, as far as it is written there."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part) or "it" for part in node.values)
    if isinstance(node, ast.BinOp):
        return written(node.left) + written(node.right)
    return ""


def test_no_client_is_told_to_type_a_command() -> None:
    found = [*hints(), template.HINT, DAMAGED.hint]
    assert sum(" --" in hint or "`edgeship" in hint for hint in found) > 10
    for kind in (UsageError, NotFound):
        for hint in found:
            message = failures.told(kind("it is wrong", hint=hint))
            assert not re.search(r"(^|[ `(])--\w|edgeship \w|pip install ", message), hint


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConstraintInvalid("no", hint="Leave it out. --schema-lenient does it."), "no. Leave it out."),
        (TemplateInvalid("no", hint=template.HINT), "no. Send messages as the model's template takes them."),
        (PackageNotFound("no", hint="`edgeship cache ls` lists all."), "no. /v1/models lists the models."),
        (OriginRefused("no", hint="Start it with --allowed-host NAME."), "no. Start it with --allowed-host NAME."),
        (RequestInvalid("no", hint="Did you mean a--b?"), "no. Did you mean a--b?"),
    ],
)
def test_what_is_told_in_place_of_commands(error: EdgeshipError, message: str) -> None:
    assert failures.told(error) == message


def test_how_much_memory_a_longer_context_needs_is_for_whoever_starts_the_server() -> None:
    cut = why_cut(Room(1, 4, 0), 1000, 8, Limits())
    with pytest.raises(ContextFull) as caught:
        check_tokens([1] * 5, limit=4, vocab_size=9, cut=cut)
    assert "--kv-memory" in str(caught.value)
    told = failures.told(caught.value)
    assert "since memory cut the context" in told
    assert "--" not in told
