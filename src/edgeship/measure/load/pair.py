"""Two targets asked in turns, A B A B: the ratio of each figure, how sure it is, and whether conditions on it hold."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

from edgeship.errors import LESS_MEMORY, MemoryShort
from edgeship.measure import document
from edgeship.measure.load import conditions
from edgeship.measure.load.bench import EndedBy, Plan, workload
from edgeship.measure.load.conditions import Condition, Judged
from edgeship.measure.load.driver import Driven
from edgeship.measure.load.levels import Level
from edgeship.measure.load.looks import Looks
from edgeship.measure.load.records import Record
from edgeship.measure.load.subject import Access, Subject, opened
from edgeship.measure.load.turns import FIGURES, Compared, compared
from edgeship.progress import Progress, silent, under
from edgeship.system.machine import memory_bytes
from edgeship.targets import Target

TURNS = 12
"""Of each target, where nobody says how many: intervals of so many hold as often as they say."""
TURN_REQUESTS = 6
"""In each turn, where nobody says how many, or as many as there are clients: 12 turns then carry a 90th percentile."""


@dataclass(frozen=True)
class Pair:
    """What was measured. document: what `--json` prints. records: of each level, with what its level is.

    judged: each condition at each load. ended_by: None where all of it was measured.
    """

    document: dict[str, Any]
    records: tuple[tuple[Mapping[str, Any], tuple[Record, ...]], ...]
    judged: tuple[Judged, ...]
    ended_by: EndedBy | None = None


def compare(
    targets: tuple[Target, Target],
    plan: Plan,
    access: Access,
    fail_if: Sequence[Condition] = (),
    *,
    progress: Progress = silent,
) -> Pair:
    """Opens both targets and asks them in turns, as often as the plan repeats, or as there is time for until Ctrl-C.

    Ctrl-C also ends the time in which it is worked out how sure the ratios are.

    Raises what `openings`, opening, and `in_turns` raise.
    """
    with ExitStack() as stack:
        a, b = (stack.enter_context(each) for each in openings(targets, plan, access, progress))
        looks = Looks(plan.repeats, plan.repeats)
        levels, ended_by = in_turns((a, b), plan, looks, fail_if, progress)
        told = [_told(subject, [pair[side] for pair in levels], plan) for side, subject in enumerate((a, b))]
    ratios, in_time = _compared(levels, progress)
    ended_by = ended_by if in_time else "interrupted"
    turns = max(len(a.repeats) for a, _ in levels)
    whole = {**document.head("bench-pair"), "complete": ended_by is None, "stopped": ended_by}
    whole |= {"a": told[0], "b": told[1], "turns": turns}
    whole |= _results(ratios, looks.judged, _warnings(told))
    if ended_by and whole["outcome"] == "pass":
        whole["outcome"] = "undecided"  # not all that was to be looked at was
    records = [
        ({"target": "ab"[side], "level": pair[side].load.name}, pair[side].records)
        for side in (0, 1)
        for pair in levels
    ]
    return Pair(whole, tuple(records), looks.judged, ended_by)


def openings(
    targets: tuple[Target, Target], plan: Plan, access: Access, progress: Progress = silent
) -> tuple[AbstractContextManager[Subject], AbstractContextManager[Subject]]:
    """What opens A, and what opens B, when it is entered: whoever enters them knows which of both cannot be opened.

    access: limits are of what is loaded here, model and key of servers. Raises MemoryShort; entering raises what
    `opened` raises.
    """
    _require_memory(targets)
    kinds = {target.kind == "url" for target in targets}
    a, b = (
        opened(
            target,
            replace(plan.asked, seed=seed),
            _of_its_kind(access, target, kinds),
            timeout_s=plan.bounds.timeout_s,
            progress=progress,
        )
        for target, seed in zip(targets, _seeds(targets, plan.asked.seed), strict=True)
    )
    return a, b


def in_turns(
    subjects: tuple[Subject, Subject],
    plan: Plan,
    looks: Looks,
    fail_if: Sequence[Condition],
    progress: Progress = silent,
) -> tuple[list[tuple[Level, Level]], EndedBy | None]:
    """Of each load a level of A and one of B: both asked in turns until the looks at the conditions are done.

    However often the plan itself would repeat. Also what ended it before: the looks then have what the turns show that
    were made. Raises KeyboardInterrupt where there are none.
    """
    driven: _DrivenSoFar = {}
    names = {one.figure.name for one in fail_if}
    while True:
        ended_by = _in_turns(subjects, plan, looks, driven, progress)
        levels = list(_levels(subjects, plan, driven))
        found, in_time = _compared(levels, progress, names)
        ended_by = ended_by if in_time else "interrupted"
        judged = [
            one.judge(a.load.name, found[a.load.name][one.figure.name], len(a.repeats))
            for a, _ in levels
            for one in fail_if
        ]
        if not looks.note(judged) or ended_by:
            return levels, ended_by


def _compared(
    levels: Sequence[tuple[Level, Level]], progress: Progress, names: Collection[str] = FIGURES.keys()
) -> tuple[dict[str, dict[str, Compared]], bool]:
    """Figures of each load, and whether there was time until Ctrl-C to work out how sure they are."""
    try:
        progress("working out how sure the ratios are", None)
        return {a.load.name: compared(a, b, names) for a, b in levels}, True
    except KeyboardInterrupt:
        return {a.load.name: compared(a, b, names, intervals=False) for a, b in levels}, False


_DrivenSoFar = dict[tuple[int, int], list[Driven]]
"""What came of each load and side, turn by turn."""


def _in_turns(
    subjects: tuple[Subject, Subject], plan: Plan, looks: Looks, driven: _DrivenSoFar, progress: Progress
) -> EndedBy | None:
    """Adds the turns before the next look to those before; what ended it before all were made.

    A turn counts once both were asked. Raises KeyboardInterrupt where there is none.
    """
    try:
        for number in looks.next_turns():
            for place, load in enumerate(plan.loads):
                turn = []
                for side, subject in enumerate(subjects):
                    tell = under(f"turn {number + 1} of {looks.goal}, {'AB'[side]}", progress)
                    turn.append(subject.drive(load, plan.bounds, warm_up=plan.warm_up, progress=tell))
                for side, done in enumerate(turn):
                    driven.setdefault((place, side), []).append(done)
                if any(done.stopped == "silent" for done in turn):
                    return "silent"
    except KeyboardInterrupt:
        if not driven:
            raise
        return "interrupted"
    return None


def _levels(subjects: tuple[Subject, Subject], plan: Plan, driven: _DrivenSoFar) -> Iterator[tuple[Level, Level]]:
    """Of each load that was measured a level of A and one of B, whose repeats were made in turns."""
    for place, load in enumerate(plan.loads):
        if (place, 0) in driven:
            a, b = (
                Level(load, tuple(driven[place, side]), subject.expected, plan.slo)
                for side, subject in enumerate(subjects)
            )
            yield a, b


def _told(subject: Subject, levels: Sequence[Level], plan: Plan) -> dict[str, Any]:
    """What `edgeship bench` tells of one target."""
    levels_told = [level.to_dict() for level in levels]
    return {"target": subject.to_dict(), "workload": workload(plan, subject.seed), "levels": levels_told}


def _results(
    ratios: Mapping[str, Mapping[str, Compared]], judged: Sequence[Judged], warnings: list[str]
) -> dict[str, Any]:
    return {
        "loads": [
            {"name": load, "figures": {name: one.to_dict() for name, one in found.items()}}
            for load, found in ratios.items()
        ],
        "conditions": [one.to_dict() for one in judged],
        "outcome": conditions.outcome(judged),
        "warnings": warnings,
    }


def _warnings(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """What keeps two targets from being asked the same."""
    a, b = (one["target"] for one in told)
    names = {"slots": "answers at once", "context_tokens": "tokens of context"}
    return [
        f"unequal: A has {a[key]} {what}, and B {b[key]}. --slots and --context give both the same."
        for key, what in names.items()
        if a[key] is not None and b[key] is not None and a[key] != b[key]
    ]


def _seeds(targets: tuple[Target, Target], seed: int | None) -> tuple[int, int]:
    """The same questions for both, but for one target that stands twice, and would know them from the first time."""
    if seed is None:
        seed = secrets.randbelow(2**31) if any(target.kind == "url" for target in targets) else 0
    return seed, seed + (targets[0].name == targets[1].name)


def _of_its_kind(access: Access, target: Target, kinds: set[bool]) -> Access:
    """What of it this target can take, where another one takes the rest."""
    if len(kinds) == 1:
        return access
    return Access(model=access.model, api_key=access.api_key) if target.kind == "url" else Access(limits=access.limits)


def _require_memory(targets: tuple[Target, Target]) -> None:
    """Raises MemoryShort where both models together are larger than the memory that is free."""
    folders = [folder for target in targets if (folder := _folder(target))]
    if len(folders) < 2:
        return
    needed = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    _, free = memory_bytes(targets[0].settings.memory_bytes)
    if needed > free:
        raise MemoryShort(
            f"both are loaded at the same time: their files have {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB of "
            "memory are free",
            hint=f"Measure one after the other with `edgeship bench`. {LESS_MEMORY}",
        )


def _folder(target: Target) -> Any:
    if target.kind == "url":
        return None
    return target.registered_folder() if target.kind == "foundry" else target.package_folder()
