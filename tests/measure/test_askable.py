"""What can be known of an evaluation before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.errors import EvalInvalid
from edgeship.measure.askable import require_askable
from edgeship.measure.evalset import EvalCase

IGNORING = "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% endif %}{% endfor %}"
REFUSING = "{{ raise_exception('no') }}"


@pytest.fixture
def checkpoint(tiny: Path) -> Checkpoint:
    return open_checkpoint(str(tiny))


def case(name: str, question: str, *, expected: str = "yes", system: str | None = None) -> EvalCase:
    first = [{"role": "system", "content": system}] if system else []
    return EvalCase.model_validate(
        {"id": name, "messages": [*first, {"role": "user", "content": question}], "expected": expected}
    )


def test_cases_that_fit_are_left_as_they_are(checkpoint: Checkpoint) -> None:
    cases = [case("a", "hello", system="Go."), case("b", "x" * 100)]
    assert require_askable(cases, checkpoint) == tuple(cases)
    assert require_askable((), checkpoint) == ()


def test_cases_longer_than_the_context_are_named(checkpoint: Checkpoint) -> None:
    words = "order " * checkpoint.context_tokens
    with pytest.raises(EvalInvalid, match=r"2 of 3 cases are longer than the context of \d+ tokens.*'a' has .*'c' has"):
        require_askable([case("a", words), case("b", "hello"), case("c", "hello", expected=words)], checkpoint)


def test_a_template_without_a_system_role(tiny: Path) -> None:
    (tiny / "chat_template.jinja").write_text(IGNORING, encoding="utf-8")
    said: list[str] = []
    opened = open_checkpoint(str(tiny))

    def tell(message: str, fraction: float | None = None) -> None:
        del fraction
        said.append(message)

    (found,) = require_askable([case("a", "hello", system="Go.")], opened, tell)
    assert found.conversation == [{"role": "user", "content": "Go.\n\nhello"}]
    assert "no system role" in said[0]


def test_a_case_that_the_template_refuses_is_named(tiny: Path) -> None:
    (tiny / "chat_template.jinja").write_text(REFUSING, encoding="utf-8")
    with pytest.raises(EvalInvalid, match="case 'a' cannot be asked"):
        require_askable([case("a", "hello")], open_checkpoint(str(tiny)))
