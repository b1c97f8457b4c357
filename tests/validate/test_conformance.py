"""Conformance of the real server, which has nothing to find, and of servers with a fault, which is found."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship import targets
from edgeship.progress import silent
from edgeship.settings import resolve
from edgeship.validate.conformance import CHECK, looking
from edgeship.validate.conformance.bounds import ConformanceBounds
from edgeship.validate.conformance.looking import stop_in
from edgeship.validate.run import validate
from edgeship.validate.subject import Against, Effort, Subject
from edgeship.validate.verdict import CheckResult
from tests.validate.faulty import faulty


def look(url: str, effort: Effort = "default") -> CheckResult:
    with Subject(targets.resolve(url, resolve()), Against(effort=effort)) as subject:
        [result] = validate(subject, checks=[CHECK]).checks
    return result


def failed(result: CheckResult) -> list[str]:
    return [finding.name for finding in result.findings if finding.outcome == "fail"]


@pytest.mark.parametrize("effort", ["default", "quick"])
def test_the_real_server_conforms(effort: Effort) -> None:
    with faulty("none") as url:
        result = look(url, effort)
    assert not failed(result), [finding.told for finding in result.findings]
    skipped = {finding.name for finding in result.findings if finding.outcome == "skipped"}
    assert skipped == {"embeddings"}, skipped


CAUGHT: Mapping[str, tuple[str, ...]] = {
    "ignores-max-tokens": ("chat-max-tokens",),
    "lies-about-usage": ("chat-usage", "chat-logprobs"),
    "leaks-stops": ("chat-stop", "chat-stop-stream"),
    "says-another-length": ("unfinished",),  # not even its list of models can be read
    "leaves-out-the-end": ("chat-stream", "responses-stream", "messages-stream", "ollama-chat-stream"),
    "leaves-out-finish": ("chat-whole", "chat-stream", "messages-whole", "ollama-chat-whole"),
    "tells-other-types": ("chat-whole", "responses-whole", "messages-whole", "ollama-chat-whole"),
    "names-no-model": ("chat-whole", "chat-stream"),
    "changes-ids": ("chat-stream",),
    "cuts-characters": ("chat-utf8",),
    "replaces-characters": ("chat-utf8",),
}


@pytest.mark.parametrize("fault", CAUGHT)
def test_a_fault_is_found(fault: str) -> None:
    with faulty(fault) as url:
        result = look(url)
    assert set(CAUGHT[fault]) <= set(failed(result)), [finding.told for finding in result.findings]
    evidence = [each for finding in result.findings for each in finding.evidence]
    assert all(each.id.startswith("conformance/") and each.request["kind"] == "http" for each in evidence)
    assert len({each.id for each in evidence}) == len(evidence)


def test_a_stream_that_is_never_closed_is_found_and_others_are_waited_for_less_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looking, "_HASTY_S", 0.1)
    with faulty("never-ends") as url, Subject(targets.resolve(url, resolve())) as subject:
        bounds = ConformanceBounds(max_silence_s=30.0, max_close_s=0.2)
        found = {each.name: each for each in CHECK.run(subject, bounds, silent)}
    assert found["chat-whole"].outcome == "pass"
    assert found["chat-stream"].outcome == "fail"
    assert "was not closed 0.2 s after its last event" in found["chat-stream"].told
    assert "was not closed 0.1 s after its last event" in found["messages-stream"].told
    assert "was not closed 0.1 s after its last event" in found["ollama-chat-stream"].told


@given(st.text(min_size=3, max_size=40))
def test_a_stop_text_stands_in_the_answer_for_the_first_time_and_has_no_space_at_its_ends(text: str) -> None:
    stop = stop_in(text)
    if stop is not None:
        assert text.index(stop) > 0
        assert stop == stop.strip()
        assert 2 <= len(stop) <= 4
