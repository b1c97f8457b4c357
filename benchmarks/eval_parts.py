"""How fast an evaluation is: the example's cases side by side, over one after another.

`alone` asks one question after another in an engine with a single slot, as a loop over them would, guesses and all.
`together` is `evaluate` in as many slots as it takes by itself. Both read the same package and must give the same
answers.
usage of a part, by `turns.child`: eval_parts.py alone|together {"folder": ...}
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import bench_engine
import turns
from turns import Figures, in_turns

from edgeship.engine.answer import ask
from edgeship.engine.api import Limits
from edgeship.engine.opening import load
from edgeship.measure.cases.assertions import Reply
from edgeship.measure.cases.evalset import EvalCase, judge, read_evalset
from edgeship.measure.evaluation.evaluate import answer_tokens, evaluate, greedy, slots_for


def speed(rounds: int) -> Figures:
    """Seconds for all cases of the example, each in a process of its own and in turns; the medians count."""
    job = {"folder": str(bench_engine.example())}
    parts = {name: partial(turns.child, __file__, name, job) for name in ("alone", "together")}
    runs = in_turns(rounds, parts)
    answers = {json.dumps(run.pop("answers")) for found in runs.values() for run in found}
    seconds = {name: statistics.median(run["wall_s"] for run in found) for name, found in runs.items()}
    return {
        **{f"{name}_s": value for name, value in seconds.items()},
        "cases": runs["together"][0]["cases"],
        "slots": runs["together"][0]["slots"],
        "alone_over_together": seconds["alone"] / seconds["together"],
        "same_answers": len(answers) == 1,
        "target": {"alone_over_together": "at least 3", "same_answers": "true"},
    }


def _alone(folder: Path, cases: tuple[EvalCase, ...]) -> Figures:
    with load(folder, limits=Limits(slots=1)) as engine:
        sampling = replace(greedy(answer_tokens(engine, cases), None), seed=None)
        ask(engine, cases[0].asked, sampling)
        begun = time.perf_counter()
        answers = [ask(engine, case.asked, sampling) for case in cases]
        passed = sum(judge(case, Reply.of(answer)).passed for case, answer in zip(cases, answers, strict=True))
        wall_s = time.perf_counter() - begun
        return _figures(wall_s, [answer.text for answer in answers], passed, 1)


def _together(folder: Path, cases: tuple[EvalCase, ...]) -> Figures:
    with load(folder, slots=slots_for(cases)) as engine:
        ask(engine, cases[0].asked, greedy(answer_tokens(engine, cases), None))
        begun = time.perf_counter()
        found = evaluate(engine, cases)
        wall_s = time.perf_counter() - begun
        return _figures(wall_s, [record.answer for record in found.records], found.passed, found.concurrency)


def _figures(wall_s: float, answers: list[str], passed: int, slots: int) -> Figures:
    return {"wall_s": wall_s, "cases": len(answers), "passed": passed, "slots": slots, "answers": answers}


def main() -> None:
    part, job = sys.argv[1], json.loads(sys.argv[2])
    cases = read_evalset(bench_engine.EXAMPLE / "eval.jsonl")
    print(json.dumps({"alone": _alone, "together": _together}[part](Path(job["folder"]), cases)))


if __name__ == "__main__":
    main()
