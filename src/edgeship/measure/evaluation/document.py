"""An evaluation of a target as a document, and beside another one of the same cases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeship.errors import EvalInvalid
from edgeship.measure import document
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.evaluation.target import EvalOptions, Way, WayResult
from edgeship.measure.statistics import noninferiority
from edgeship.measure.statistics.bootstrap import MEAN, interval
from edgeship.measure.statistics.intervals import Interval, PairedChange, paired_change
from edgeship.system.json_file import Complaint, read_object

Shares = tuple[float, float]
"""Of a case, the parts of its answers that are right: before, and now."""
_AT_WORST = 2
"""With 95 % confidence, less than so many times what may be lost is lost."""
_MOST_BYTES = 1 << 27
_COMPLAINT = Complaint(EvalInvalid, "Give what `edgeship eval` wrote, or a target to be asked.")


def case_digest(case: EvalCase) -> str:
    """What tells two cases apart, whatever they are called."""
    content = case.model_dump(mode="json", by_alias=True, exclude={"id", "slice", "tags", "weight"})
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def eval_document(
    target: Mapping[str, Any],
    file: Path,
    cases: Sequence[EvalCase],
    options: EvalOptions,
    found: Sequence[WayResult],
    memory_limit_bytes: int | None = None,
) -> dict[str, Any]:
    """What `--json` prints, see docs/evaluations.md."""
    constraint = options.constraint
    return document.head("eval", memory_limit_bytes) | {
        "target": dict(target),
        "file": str(file),
        "settings": {
            "repeat": options.repeat,
            "seed": options.seed,
            "max_tokens": options.max_tokens,
            "constraint": asdict(constraint) if constraint else None,
            "template_variables": dict(options.variables),
            "timeout_s": options.timeout_s,
            "duration_s": options.duration_s,
        },
        "complete": all(each.complete for each in found),
        "cases": [
            {
                "id": case.id,
                "slice": case.slice,
                "tags": list(case.tags),
                "weight": case.weight,
                "question": case.question,
                "expected": case.expected_text,
                "digest": case_digest(case),
            }
            for case in cases
        ],
        "ways": {each.way: _way(each) for each in found},
        "baseline": None,
    }


def _way(found: WayResult) -> dict[str, Any]:
    values = asdict(found)
    result = values.pop("result") or {}
    del values["way"], values["concurrency"], values["errors"]
    return values | {"errors": [asdict(each) for each in found.errors], "concurrency": found.concurrency} | result


# --- beside another one ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """How often answers are right, beside a baseline, over the cases that both were asked.

    change: of the share of right answers. interval: of 95 %; None where so few cases have none.
    lost: cases that the baseline answers right more often; gained: less often.
    outcome: whether it holds that the share fell by no more than may be, see `no_worse`. It fails where the share
    surely fell by more, or that of a slice did, which worse_slices names. doubtful_slices would surely have by
    themselves, and as some of several may look so by chance: it is undecided then.
    bounds: the true change lies above the lower end with 95 % confidence, and so below the upper one.
    more: about so many more cases would decide, of the first doubtful slice where that alone is undecided; None where
    it is decided, or where no number is enough.
    """

    cases: int
    baseline_pass_rate: float
    pass_rate: float
    change: float
    interval: Interval | None
    lost: tuple[str, ...]
    gained: tuple[str, ...]
    outcome: noninferiority.Outcome
    bounds: Interval
    more: int | None
    worse_slices: tuple[str, ...]
    doubtful_slices: tuple[str, ...]


def read_baseline(path: Path) -> dict[str, Any]:
    """An evaluation that was kept. Raises EvalInvalid for what is none."""
    found = read_object(path, _COMPLAINT, most_bytes=_MOST_BYTES)
    if found.get("schema") != document.schema("eval"):
        raise _COMPLAINT.about(path, f"is no evaluation: its schema is not {document.schema('eval')}")
    try:
        for way in found["ways"].values():
            _shares(way)
        _digests(found)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _COMPLAINT.about(path, f"is damaged: {type(error).__name__}: {error}") from error
    return found


def beside(found: Mapping[str, Any], baseline: Mapping[str, Any], max_drop: float) -> dict[str, Any]:
    """What "baseline" of a document says: the target, and the change in each way that both have.

    max_drop: the share of right answers may fall by so much. Its outcome is that of the way that was asked first.
    Cases that differ in more than their names, or that one of both has no answer to, are left out. Raises EvalInvalid
    where no case is left.
    """
    slices = {str(case["id"]): str(case["slice"]) for case in found["cases"]}
    changes = {way: _change(shares, slices, max_drop) for way, shares in paired(found, baseline).items()}
    return {
        "target": baseline.get("target"),
        "created": baseline.get("created"),
        "max_drop": max_drop,
        "outcome": next(iter(changes.values())).outcome,
        "ways": {way: asdict(change) for way, change in changes.items()},
    }


def paired(found: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[Way, dict[str, Shares]]:
    """Of each way that both have, and each case that both answered in it: the parts of the answers that are right.

    The baseline's comes first. Cases are left out, and it raises, as `beside` says.
    """
    ours, theirs = _digests(found), _digests(baseline)
    same = {name for name, digest in ours.items() if theirs.get(name) == digest}
    ways: dict[Way, dict[str, Shares]] = {}
    for way, answered in found["ways"].items():
        before, after = _shares(_way_of(baseline, way, answered.get("same"))), _shares(answered)
        if shares := {name: (before[name], after[name]) for name in after if name in before and name in same}:
            ways[way] = shares
    if not ways:
        raise EvalInvalid(
            "the baseline has no case that was answered in the same way",
            hint="Cases are the same where question, expectation and assertions are.",
        )
    return ways


def _way_of(found: Mapping[str, Any], way: Way, same: Way | None) -> Mapping[str, Any]:
    """The answers of that way, or those of another that stand for it. same: the way whose answers are the same here."""
    ways: Mapping[str, Mapping[str, Any]] = found["ways"]
    standing = (each for name, each in ways.items() if each.get("same") == way or name == same)
    return ways.get(way) or next(standing, {})


def no_worse(shares: Mapping[str, Shares], max_drop: float) -> noninferiority.Finding:
    """Whether the share of right answers fell by no more than that. shares: of each case.

    It holds if what was measured lies within the margin, and the true drop surely within `at_worst` of it. To show that
    the true drop itself lies within it takes more than a thousand cases if a package loses one in a hundred.
    By Tango's intervals, or a bootstrap where attempts were repeated.
    """
    by: Callable[[float], noninferiority.Finding]
    if _is_whole(shares):
        by = partial(noninferiority.of_change, _paired(shares.values()))
    else:
        before, after = zip(*shares.values(), strict=True)
        by = partial(noninferiority.of_scores, before, after)
    found = by(max_drop)
    if found.outcome != "undecided" or not found.within:
        return found
    worst = by(at_worst(max_drop))
    return replace(found, outcome=worst.outcome, more=worst.more)


def at_worst(max_drop: float) -> float:
    """So much may be lost at worst, with 95 % confidence, where what was measured lies within the margin."""
    return min(1.0, _AT_WORST * max_drop)


def slice_changes(shares: Mapping[str, Shares], slices: Mapping[str, str]) -> dict[str, PairedChange]:
    """The change of each slice; nothing where there is only one, or where attempts were repeated.

    slices: of each case by its id.
    """
    by_slice: dict[str, list[Shares]] = {}
    for name, pair in shares.items():
        by_slice.setdefault(slices[name], []).append(pair)
    if len(by_slice) < 2 or not _is_whole(shares):
        return {}
    return {name: _paired(pairs) for name, pairs in by_slice.items()}


def _is_whole(shares: Mapping[str, Shares]) -> bool:
    """Whether each case is either right or wrong."""
    return {share for pair in shares.values() for share in pair} <= {0.0, 1.0}


def _paired(shares: Collection[Shares]) -> PairedChange:
    """Of cases that are either right or wrong."""
    return paired_change([then == 1 for then, _ in shares], [now == 1 for _, now in shares])


def _change(shares: Mapping[str, Shares], slices: Mapping[str, str], max_drop: float) -> Change:
    held = no_worse(shares, max_drop)
    of_slices = noninferiority.of_slice_changes(slice_changes(shares, slices), max_drop)
    worse, doubtful = noninferiority.beyond(of_slices)
    outcome, more = held.outcome, held.more
    if worse:
        outcome, more = "fails", None
    elif doubtful and outcome == "holds":
        outcome, more = "undecided", of_slices[doubtful[0]].more
    rates = [sum(each) / len(shares) for each in zip(*shares.values(), strict=True)]
    changes = [now - then for then, now in shares.values()]
    return Change(
        len(shares),
        rates[0],
        rates[1],
        rates[1] - rates[0],
        _paired(shares.values()).interval if _is_whole(shares) else interval(MEAN, changes),
        tuple(name for name, (then, now) in shares.items() if now < then),
        tuple(name for name, (then, now) in shares.items() if now > then),
        outcome=outcome,
        bounds=held.bounds,
        more=more,
        worse_slices=worse,
        doubtful_slices=() if worse else doubtful,
    )


def _shares(way: Mapping[str, Any]) -> dict[str, float]:
    """Of each case that was answered, the part of its answers that is right."""
    outcomes: dict[str, list[bool]] = {}
    for record in way.get("records") or ():
        outcomes.setdefault(str(record["id"]), []).append(bool(record["passed"]))
    return {name: sum(each) / len(each) for name, each in outcomes.items()}


def _digests(found: Mapping[str, Any]) -> dict[str, str]:
    return {str(case["id"]): str(case["digest"]) for case in found["cases"]}
