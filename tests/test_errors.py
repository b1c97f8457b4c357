from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from edgeship.cli.app import app
from edgeship.errors import AdapterInvalid, EngineFailed
from edgeship.in_python import OPTIONS


def test_what_strangers_wrote_is_quoted_without_power_and_end() -> None:
    error = AdapterInvalid(f"it holds \x1b[31m\u202e{'x' * 10**6}\ud800 end\nmore", hint="see \x07it")
    assert error.what.startswith("it holds \\x1b[31m\\u202exxx")
    assert error.what.endswith("\\ud800 end\nmore")
    assert len(error.what) < 2100
    assert (error.args[0], error.hint) == (error.what, "see \\x07it")


def test_a_traceback_says_where_and_what_to_try_in_pythons_words_too() -> None:
    assert str(EngineFailed("it failed")) == "it failed"
    error = EngineFailed("it failed", where="/there", hint="Try --force or --builder genai, not --force-reinstall.")
    assert str(error).splitlines() == [
        "it failed",
        "  where: /there",
        "  try:   Try --force or --builder genai, not --force-reinstall.",
        "  in Python: --force is force=True, --builder is Recipe(builder=...)",
    ]


def test_every_option_that_a_message_names_has_its_words_in_python() -> None:
    # What only the command line reads or writes, and an option of ours that is another tool's too.
    no_program_has = {"--config", "--publisher", "--context-tokens", "--file", "--json", "--model"}
    no_program_has |= {"--prompts", "--prompt-tokens", "--new-tokens", "--slots", "--fail-if"}  # of bench
    no_program_has |= {"--texts"}  # of compare
    no_program_has |= {"--out", "--only", "--quick", "--long", "--baseline", "--replay", "--verdict"}  # of validate
    no_program_has |= {"--write-gate", "--compare", "--port", "--drain"}  # of validate, bench and serve
    no_program_has |= {"--max-tokens"}  # of eval and validate
    ours = set(_options(typer.main.get_command(app)))
    assert set(OPTIONS) <= ours
    source = Path(__file__).parent.parent / "src" / "edgeship"
    rooms = (path for path in source.rglob("*.py") if "cli" not in path.parts)
    named = {option for path in rooms for text in _texts(path) for option in re.findall(r"--[a-z][a-z-]+", text)}
    assert (named & ours) - no_program_has <= set(OPTIONS)


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from parameter.opts
    for child in getattr(command, "commands", {}).values():
        yield from _options(child)


def _texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
