from __future__ import annotations

import itertools
import json
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from edgeship.cli.eval_tables import changes, errors, failing, figures, groups, remarks
from edgeship.engine.api import AnswerSteps, Conversation, Limits, OnStep, Sampling, Stats, Token, Usage
from edgeship.engine.opening import load
from edgeship.errors import DeadlinePassed, EngineFailed, EvalInvalid, PromptInvalid, RemoteFailed
from edgeship.measure.cases.evalset import EvalCase, read_evalset
from edgeship.measure.evaluation.document import beside, case_digest, eval_document, read_baseline
from edgeship.measure.evaluation.evaluate import SLOTS, answers, evaluate, slots_for
from edgeship.measure.evaluation.target import INTERRUPTED, EvalOptions, WayResult, evaluate_target, seed_of
from tests.scripted import Made, ScriptedEngine

ROOT = Path(__file__).parent.parent.parent.parent


def case(name: str, expected: Any = "yes", **changes: Any) -> EvalCase:
    return EvalCase.model_validate(
        {"id": name, "messages": [{"role": "user", "content": name}], "expected": expected} | changes
    )


class Server:
    """A chat that shows no tokens and does not say what it answers by default, as a server; `say` makes its answers."""

    name = "server"
    note: str | None = None
    codec = None
    context_tokens = None
    defaults = Sampling()

    def __init__(self, say: Callable[[str, Sampling], str], slots: int = 4) -> None:
        self.say, self.asked = say, list[tuple[str, Sampling, Conversation]]()
        self._slots = slots

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Holds nothing."""

    def stats(self) -> Stats:
        return Stats(0, 0, None)

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        question = str(conversation.messages[-1]["content"])
        self.asked.append((question, sampling, conversation))
        engine = ScriptedEngine({question: self.say(question, sampling)})
        plain = Sampling(max_tokens=sampling.max_tokens)
        return engine.converse(conversation, plain, cancel=cancel, deadline_s=deadline_s, on_step=on_step)


def shipping(**answers: str) -> ScriptedEngine:
    """An engine whose package ships settings that sample."""
    engine = ScriptedEngine(answers)
    engine.defaults = Sampling(temperature=0.7, top_p=1.0, top_k=0, min_p=0.0, repetition_penalty=1.0)
    return engine


def test_results_are_in_the_files_order() -> None:
    cases = [case(name, name * 3) for name in ("long" * 20, "b", "a")]
    with ScriptedEngine({each.id: each.id * 3 for each in cases}) as engine:
        (found,) = evaluate_target(engine, cases, EvalOptions())
    assert found.result
    assert [record.id for record in found.result.records] == [each.id for each in cases]
    assert (found.way, found.same, found.result.passed, found.complete) == ("shipped", "greedy", 3, True)


def test_both_ways_where_the_package_samples() -> None:
    with shipping(a="yes") as engine:
        shipped, greedily = evaluate_target(engine, [case("a")], EvalOptions(repeat=3))
        assert [found.way for found in evaluate_target(engine, [case("a")], EvalOptions(ways=("greedy",)))] == [
            "greedy"
        ]
    assert (shipped.way, shipped.repeat, shipped.sampling["temperature"]) == ("shipped", 3, 0.7)
    assert (greedily.way, greedily.repeat, greedily.sampling["temperature"]) == ("greedy", 1, 0.0)
    assert shipped.result
    assert greedily.result
    assert [record.attempt for record in shipped.result.records] == [1, 2, 3]
    assert len({record.seed for record in shipped.result.records}) == 3
    assert [each.k for each in shipped.result.repeats] == [1, 2, 3]
    assert greedily.result.repeats == ()


def test_a_server_is_asked_by_its_own_settings_and_given_no_seed() -> None:
    server = Server(lambda *_: "yes")
    shipped, greedily = evaluate_target(server, [case("a")], EvalOptions(repeat=2))
    assert (shipped.repeat, greedily.repeat) == (2, 2)
    assert [(each.temperature, each.seed) for _, each, _ in server.asked] == [(None, None)] * 2 + [(0.0, None)] * 2
    server = Server(lambda *_: "yes")
    evaluate_target(server, [case("a"), case("b", seed=7)], EvalOptions(ways=("shipped",), seed=1, repeat=2))
    assert [each.seed for _, each, _ in server.asked][1::2] == [7, 8]
    assert None not in [each.seed for _, each, _ in server.asked]


def test_a_seed_is_the_cases_own_whichever_others_are_asked() -> None:
    assert seed_of(case("a"), 1, 0) == seed_of(case("a", slice="x"), 1, 0)
    assert len({seed_of(case(name), number, seed) for name in "ab" for number in (1, 2) for seed in (0, 1)}) == 8
    assert seed_of(case("a", seed=5), 3, 1) == 7
    assert seed_of(case("a"), 1, None) is None


def test_variables_and_constraints_reach_the_target() -> None:
    from edgeship.engine.api import Constraint

    schema = {"type": "object"}
    server = Server(lambda *_: "{}")
    given = Constraint("json_object")
    options = EvalOptions(ways=("greedy",), variables={"mood": "calm"}, constraint=given, max_tokens=9)
    evaluate_target(server, [case("a", {}), case("b", {}, schema=schema)], options)
    assert [conversation.variables for _, _, conversation in server.asked] == [{"mood": "calm"}] * 2
    held = {question: sampling.constraint for question, sampling, _ in server.asked}
    assert held["a"] == given
    assert held["b"] is not None
    assert json.loads(held["b"].text) == schema
    assert {sampling.max_tokens for _, sampling, _ in server.asked} == {9}


def test_errors_are_errors_and_no_wrong_answers() -> None:
    def say(question: str, _: Sampling) -> str:
        if question.startswith("bad"):
            raise RemoteFailed("the server failed (500): oops")
        return "yes"

    (found,) = evaluate_target(Server(say), [case("a"), case("bad1"), case("b", "no")], EvalOptions(ways=("greedy",)))
    assert found.result
    assert (found.result.cases, found.result.passed, found.complete) == (2, 1, True)
    assert [(each.id, each.code) for each in found.errors] == [("bad1", "remote-failed")]
    assert found.result.errors == found.errors


def test_a_target_that_fails_again_and_again_is_given_up() -> None:
    def say(question: str, _: Sampling) -> str:
        if question != "0":
            raise EngineFailed("gone")
        return "yes"

    server = Server(say)
    cases = [case(str(number)) for number in range(40)]
    (found,) = evaluate_target(server, cases, EvalOptions(concurrency=1))
    assert found.stopped == "10 answers in a row did not come"
    assert found.result
    assert (found.result.cases, len(found.errors), len(server.asked)) == (1, 10, 11)
    with pytest.raises(EngineFailed, match="gone"):
        evaluate_target(Server(say), cases[1:], EvalOptions())


def test_what_was_answered_before_ctrl_c_is_kept() -> None:
    told: list[str] = []

    def interrupt(message: str, fraction: float | None = None) -> None:
        del fraction
        told.append(message)
        if message.endswith("2 of 3 answers"):
            raise KeyboardInterrupt

    with ScriptedEngine({}) as engine:
        (found,) = evaluate_target(engine, [case(name) for name in "abc"], EvalOptions(concurrency=1), interrupt)
    assert (found.stopped, found.complete, found.attempts) == (INTERRUPTED, False, 3)
    assert found.result
    assert [record.id for record in found.result.records] == ["a", "b"]


def test_nothing_is_kept_of_nothing() -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_target(Server(interrupt), [case("a")], EvalOptions())
    with ScriptedEngine({}, delay_s=0.05) as engine, pytest.raises(DeadlinePassed, match="before any case"):
        evaluate_target(engine, [case("a")], EvalOptions(duration_s=0.01))


def test_what_the_time_has_room_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def until_the_second(*given: Any, **options: Any) -> Iterator[Any]:
        assert options.pop("until") < math.inf
        return itertools.islice(answers(*given, **options), 1)

    monkeypatch.setattr(
        "edgeship.measure.evaluation.target.answers", lambda *a, **k: (yield from until_the_second(*a, **k))
    )
    with ScriptedEngine({}) as engine:
        (found,) = evaluate_target(engine, [case("a"), case("b")], EvalOptions(duration_s=60, concurrency=1))
    assert (found.stopped, found.errors) == ("the time ran out", ())
    assert found.result
    assert [record.id for record in found.result.records] == ["a"]


def test_cases_that_do_not_fit_are_named_before_any_is_asked() -> None:
    with ScriptedEngine({}, context_tokens=64) as engine:
        long = case("long", messages=[{"role": "user", "content": "x" * 80}])
        with pytest.raises(EvalInvalid, match=r"1 of 2 cases are longer than the context of 64 tokens, .*'long' has"):
            evaluate_target(engine, [case("a"), long], EvalOptions())
        with pytest.raises(EvalInvalid, match="cannot be asked"):
            evaluate(engine, [case("a"), long])


def test_slots_for_cases() -> None:
    assert slots_for([case("a")]) == SLOTS
    assert slots_for([case("a"), case("b", messages=[{"role": "user", "content": "x" * 5000}])]) == 1
    assert slots_for([case("a", **{"assert": [{"type": "latency", "threshold": 100}]})]) == 1


def test_latency_leaves_waiting_in_line_out() -> None:
    class Waiting(Server):
        def converse(self, *_: object, on_step: OnStep | None = None, **__: object) -> AnswerSteps:
            assert on_step
            on_step(Token(None, "yes", finish="stop", usage=Usage(1, 2, ttft_s=0.5, e2e_s=0.75, queue_s=0.25)))
            return Made()

    at_most = {"type": "latency", "threshold": 600}
    (found,) = evaluate_target(
        Waiting(lambda *_: ""), [case("a", **{"assert": [at_most]})], EvalOptions(ways=("greedy",))
    )
    assert found.result
    (record,) = found.result.records
    assert (record.ttft_s, record.e2e_s, record.queue_s, record.passed) == (0.25, 0.5, 0.25, True)
    assert found.result.concurrency == 1


def document(*results: WayResult, cases: list[EvalCase], **options: Any) -> dict[str, Any]:
    target = {"kind": "package", "name": "one", "model": None}
    return eval_document(target, Path("cases.jsonl"), cases, EvalOptions(**options), results)


def made(answers: dict[str, str], cases: list[EvalCase], **options: Any) -> dict[str, Any]:
    with shipping(**answers) as engine:
        return document(*evaluate_target(engine, cases, EvalOptions(**options)), cases=cases, **options)


CASES = [case("a", slice="seen", tags=["short"]), case("b", slice="new"), case("c", slice="new")]


def test_a_document_has_all_of_it(tmp_path: Path) -> None:
    found = made({"a": "yes", "b": "yes", "c": "no"}, CASES)
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(found), encoding="utf-8")
    assert read_baseline(kept) == json.loads(kept.read_text(encoding="utf-8"))
    assert list(found)[:4] == ["schema", "edgeship", "created", "machine"]
    assert (found["schema"], found["complete"], list(found["ways"])) == ("edgeship/eval/1", True, ["shipped", "greedy"])
    way = found["ways"]["shipped"]
    assert (way["cases"], way["passed"], way["by_slice"]["new"]) == (3, 2, {"passed": 1, "cases": 2})
    assert (way["by_tag"], way["by_assertion"]) == (
        {"short": {"passed": 1, "cases": 1}},
        {"equals": {"passed": 2, "cases": 3}},
    )
    assert [record["answer"] for record in way["records"]] == ["yes", "yes", "no"]
    assert [entry["expected"] for entry in found["cases"]] == ["yes"] * 3


def test_a_case_is_the_same_under_another_name() -> None:
    question = [{"role": "user", "content": "?"}]
    assert case_digest(case("a", messages=question)) == case_digest(case("b", messages=question, slice="x"))
    assert case_digest(case("a")) != case_digest(case("a", "no"))


def test_beside_a_baseline() -> None:
    before = made({"a": "yes", "b": "yes", "c": "no"}, CASES)
    after = made({"a": "yes", "b": "no", "c": "no"}, [*CASES, case("d")])
    change = beside(after, before, 0.02)["ways"]["shipped"]
    assert (change["cases"], change["lost"], change["gained"]) == (3, ("b",), ())
    assert change["change"] == pytest.approx(-1 / 3)
    assert change["interval"]["low"] < -1 / 3 < change["interval"]["high"]
    after["baseline"] = beside(after, before, 0.02)
    assert [(one.id, one.baseline_passes) for one in failing(after, 9)] == [("b", True), ("c", False), ("d", False)]
    said, held, *_ = changes(after)
    assert said.startswith("as it ships: 33.3 points below one's 66.7 % (95 % interval -")
    assert said.endswith("over 3 cases; 1 lost, 0 gained")
    assert held.startswith("  undecided whether it lost more than 2.0 points: about ")
    other = made({}, [case("a", "something else")])
    with pytest.raises(EvalInvalid, match="no case"):
        beside(after, other, 0.02)


def test_a_slice_that_surely_fell_fails_though_the_whole_does_not() -> None:
    cases = [case(f"q{number}", slice="rare" if number < 20 else "usual") for number in range(400)]
    right = {each.id: "yes" for each in cases}
    after = made({name: answer for name, answer in right.items() if int(name[1:]) >= 20}, cases)
    after["baseline"] = found = beside(after, made(right, cases), 0.1)
    change = found["ways"]["shipped"]
    assert (found["outcome"], change["outcome"], change["worse_slices"]) == ("fails", "fails", ("rare",))
    assert change["bounds"]["low"] > -0.1
    assert "  slices that surely lost more than 10.0 points: rare" in list(changes(after))


def test_a_slice_that_may_look_bad_by_chance_is_undecided_as_for_the_release_gate() -> None:
    cases = [case(f"q{number}", slice=f"s{number // 4}" if number < 40 else "usual") for number in range(400)]
    right = {each.id: "yes" for each in cases}
    after = made({name: answer for name, answer in right.items() if name not in ("q0", "q1", "q2", "q3")}, cases)
    after["baseline"] = found = beside(after, made(right, cases), 0.1)
    change = found["ways"]["shipped"]
    assert (found["outcome"], change["worse_slices"], change["doubtful_slices"]) == ("undecided", (), ("s0",))
    said, *_ = [line for line in changes(after) if line.startswith("  undecided")]
    assert said.startswith("  undecided whether slices lost more than 10.0 points, or look so by chance: s0; about ")


def test_repeated_attempts_are_held_to_the_margin_by_their_shares() -> None:
    before = made({"a": "yes", "b": "yes", "c": "yes"}, CASES, repeat=2)
    after = made({"a": "yes", "b": "yes", "c": "yes"}, CASES, repeat=2)
    after["ways"]["shipped"]["records"][0]["passed"] = False
    change = beside(after, before, 0.02)["ways"]["shipped"]
    assert (change["change"], change["outcome"]) == (pytest.approx(-1 / 6), "undecided")


def test_a_way_that_stands_for_another_is_compared_as_that() -> None:
    with ScriptedEngine({"a": "yes"}) as engine:
        before = document(*evaluate_target(engine, CASES[:1], EvalOptions()), cases=CASES[:1])
    asked_both = made({"a": "no"}, CASES[:1])
    assert list(beside(asked_both, before, 0.02)["ways"]) == ["shipped", "greedy"]
    # The other way round: what is greedy by itself, beside what was asked greedily alone.
    only_greedily = asked_both | {"ways": {"greedy": asked_both["ways"]["greedy"]}}
    assert list(beside(before, only_greedily, 0.02)["ways"]) == ["shipped"]
    # What samples by itself is no match for it.
    assert list(beside(asked_both, only_greedily, 0.02)["ways"]) == ["greedy"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{}", "is no evaluation"),
        ("[]", "holds no JSON object"),
        ('{"schema": "edgeship/eval/1", "cases": []}', "is damaged"),
        ('{"schema": "edgeship/eval/1", "cases": [{}], "ways": {}}', "is damaged"),
        ('{"schema": "edgeship/eval/1", "cases": [], "ways": {"greedy": {"records": [1]}}}', "is damaged"),
    ],
)
def test_a_baseline_that_is_none(content: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(EvalInvalid, match=why):
        read_baseline(path)


def test_tables() -> None:
    found = made({"a": "yes", "b": "yes", "c": "no" * 40}, CASES, repeat=2)
    header, rows = figures(found)
    assert dict(zip(header, rows[0], strict=True)) | {"TTFT P50": "", "ANSWER P50": "", "TIME": ""} == {
        "ANSWERED": "as it ships",
        "ANSWERS": "6",
        "RIGHT": "4",
        "PASS RATE": "66.7 %",
        "SCORE": "0.667",
        "95 %": rows[0][4],
        "ALWAYS": "66.7 %",
        "EVER": "66.7 %",
        "ERRORS": "0",
        "TOKENS": rows[0][-2],
        "TTFT P50": "",
        "ANSWER P50": "",
        "TIME": "",
    }
    assert [row[:3] for _, table in groups(found) for row in table] == [
        ["seen", "2", "100.0 % (2)"],
        ["new", "4", "50.0 % (2)"],
        ["short", "2", "100.0 % (2)"],
    ]
    said = "\n".join(remarks(found))
    assert "greedily each case was asked once" in said
    assert "as it ships 2 answers were cut at 22 tokens" in said
    assert [one.told for one in failing(found, 9)] == ["c, 2 of 2 times"]


def test_errors_are_told_by_kind() -> None:
    def say(question: str, _: Sampling) -> str:
        if question in "bc":
            raise PromptInvalid("the server refuses the request (400): no")
        return "yes"

    results = evaluate_target(Server(say), CASES, EvalOptions(ways=("greedy",)))
    assert list(errors(document(*results, cases=CASES))) == [
        "greedily 2 answers did not come, and count neither as right nor as wrong:",
        "  2 x prompt-invalid: the server refuses the request (400): no (such as b)",
    ]


@pytest.mark.slow
def test_side_by_side_the_example_answers_as_one_by_one(example: Path) -> None:
    cases = read_evalset(ROOT / "examples" / "triage" / "eval.jsonl")
    with load(example, slots=SLOTS) as engine:
        assert engine.slots == SLOTS
        together = evaluate(engine, cases)
    with load(example, limits=Limits(slots=1)) as engine:
        alone = evaluate(engine, cases)
    assert (len(cases), together.concurrency, alone.concurrency) == (324, SLOTS, 1)
    assert [record.answer for record in together.records] == [record.answer for record in alone.records]
    assert together.passed == alone.passed > 280
