"""How fast a target answers under load: one ruler for packages, Foundry Local and servers. See docs/bench.md."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from edgeship.measure import document
from edgeship.measure.load import figures
from edgeship.measure.load.driver import Bounds, Driven, Interrupted, Load
from edgeship.measure.load.levels import Level
from edgeship.measure.load.records import Record
from edgeship.measure.load.subject import Access, Asked, Subject, opened
from edgeship.progress import Progress, silent
from edgeship.targets import Target

GAIN = 1.1
"""A sweep goes on while twice as many clients get so many times the tokens a second."""
MOST_CLIENTS = 64
EndedBy = Literal["interrupted", "silent"]
"""What ends a run before all of it is measured: Ctrl-C, or a target that says nothing any more."""


@dataclass(frozen=True)
class Plan:
    """What is measured. sweep: closed loops of 1, 2, 4 ... clients until more of them gain nothing.

    repeats: of each level, one round of all levels after another. warm_up: requests before each level; None takes as
    many as run at the same time.
    """

    asked: Asked
    bounds: Bounds
    loads: tuple[Load, ...] = (Load(1),)
    sweep: bool = False
    repeats: int = 1
    warm_up: int | None = None
    slo: figures.Slo | None = None


@dataclass(frozen=True)
class Bench:
    """What was measured, in whole or in part. document: what `--json` prints.

    records: of each level, with what its level is.
    """

    document: dict[str, Any]
    records: tuple[tuple[Mapping[str, Any], tuple[Record, ...]], ...]


def bench(target: Target, plan: Plan, access: Access, *, progress: Progress = silent) -> Bench:
    """Opens the target and measures every level of the plan, or what there is time for until Ctrl-C.

    Raises what `opened` raises, and KeyboardInterrupt where nothing was measured.
    """
    with opened(target, plan.asked, access, timeout_s=plan.bounds.timeout_s, progress=progress) as subject:
        kept = _Kept()
        kept.take(_swept(subject, plan, progress) if plan.sweep else _planned(subject, plan, progress))
        levels = [_level(load, driven, subject, plan) for load, driven in kept.driven.items()]
        told = [level.to_dict() for level in levels]
        whole = {
            **document.head("bench"),
            "complete": kept.ended_by is None,
            "stopped": kept.ended_by,
            "target": subject.to_dict(),
            "workload": workload(plan, subject.seed),
            "levels": told,
            "knee": _knee(told, complete=kept.ended_by is None) if plan.sweep else None,
        }
        first = [({"level": "first requests", "repeat": 0}, subject.first_records)] if subject.first_records else []
        of_levels = [
            ({"level": level.load.name, "repeat": number}, driven.records)
            for level in levels
            for number, driven in enumerate(level.repeats)
        ]
    return Bench(whole, (*first, *of_levels))


@dataclass
class _Kept:
    """What came of each load, repeat by repeat. ended_by: None where all of it was measured."""

    driven: dict[Load, list[Driven]] = field(default_factory=dict)
    ended_by: EndedBy | None = None

    def take(self, drives: Iterator[tuple[Load, Driven]]) -> None:
        """Keeps each as it ends. Of a repeat that Ctrl-C ends, what came is kept where its load has no other."""
        try:
            for load, driven in drives:
                self.driven.setdefault(load, []).append(driven)
                if driven.stopped == "silent":
                    self.ended_by = "silent"
                    return
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, Interrupted) and any(
                one.is_complete or one.is_error for one in interrupt.driven.records
            ):
                self.driven.setdefault(interrupt.load, [interrupt.driven])
            if not self.driven:
                raise
            self.ended_by = "interrupted"


def _level(load: Load, driven: Sequence[Driven], subject: Subject, plan: Plan) -> Level:
    return Level(load, tuple(driven), subject.expected, plan.slo)


def _planned(subject: Subject, plan: Plan, progress: Progress) -> Iterator[tuple[Load, Driven]]:
    """Rounds, so that a machine that slows down slows down every level."""
    for _ in range(plan.repeats):
        for load in plan.loads:
            yield load, subject.drive(load, plan.bounds, warm_up=plan.warm_up, progress=progress)


def _swept(subject: Subject, plan: Plan, progress: Progress) -> Iterator[tuple[Load, Driven]]:
    """Twice as many clients each time, until that gains little, or nothing can be told."""
    best = 0.0
    for clients in (2**power for power in itertools.count()):
        load, repeats = Load(clients), list[Driven]()
        for _ in range(plan.repeats):
            repeats.append(subject.drive(load, plan.bounds, warm_up=plan.warm_up, progress=progress))
            yield load, repeats[-1]
        rate = _level(load, repeats, subject, plan).throughput()
        if not rate or rate < GAIN * best or clients >= MOST_CLIENTS:
            return
        best = rate


def _rate(level: Mapping[str, Any]) -> float | None:
    """See Level.throughput."""
    found = level["output_tokens_per_s"]
    rate = level["requests_per_s"] if found is None else found
    return float(rate) if rate else None


def _knee(levels: list[dict[str, Any]], *, complete: bool = True) -> dict[str, Any] | None:
    """The smallest load beyond which more clients gain little: the throughput stays, and everybody waits longer.

    complete: whether the sweep came to its end. Of a level that was cut short no throughput is believed.
    """
    whole = [level for level in levels if level["ended"] not in get_args(EndedBy)]
    rates = [(level, rate) for level in whole if (rate := _rate(level)) is not None]
    if not rates:
        return None
    level, rate = rates[0]
    for other, more in rates[1:]:
        if more < GAIN * rate:
            break
        level, rate = other, more
    reached = level is not whole[-1] or (complete and len(whole) == 1)
    return {
        "concurrency": level["concurrency"],
        "output_tokens_per_s": level["output_tokens_per_s"],
        "reached": reached,
    }


def workload(plan: Plan, seed: int) -> dict[str, Any]:
    """What was asked, as documents have it."""
    asked = plan.asked
    return {
        "kind": "synthetic" if asked.prompts is None else "replay" if asked.replay else "prompts",
        "prompts": None if asked.prompts is None else str(asked.prompts),
        "prompt_tokens": asked.prompt_tokens if asked.prompts is None else None,
        "new_tokens": asked.new_tokens,
        "seed": seed,
        **asdict(plan.bounds),
        "repeats": plan.repeats,
        "warm_up": plan.warm_up,
    }
