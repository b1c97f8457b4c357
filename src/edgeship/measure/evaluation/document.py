"""An evaluation of a target as a document, and beside another one of the same cases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeship.errors import EvalInvalid
from edgeship.measure import document
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.evaluation.target import EvalOptions, Way, WayResult
from edgeship.measure.statistics.bootstrap import MEAN, interval
from edgeship.measure.statistics.intervals import Interval, paired_change
from edgeship.system.json_file import Complaint, read_object

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
    """

    cases: int
    baseline_pass_rate: float
    pass_rate: float
    change: float
    interval: Interval | None
    lost: tuple[str, ...]
    gained: tuple[str, ...]


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


def beside(found: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[str, Any]:
    """What "baseline" of a document says: the target, and the change in each way that both have.

    Cases that differ in more than their names, or that one of both has no answer to, are left out. Raises EvalInvalid
    where no case is left.
    """
    changes = {way: asdict(_change(shares)) for way, shares in paired(found, baseline).items()}
    return {"target": baseline.get("target"), "created": baseline.get("created"), "ways": changes}


def paired(found: Mapping[str, Any], baseline: Mapping[str, Any]) -> dict[Way, dict[str, tuple[float, float]]]:
    """Of each way that both have, and each case that both answered in it: the parts of the answers that are right.

    The baseline's comes first. Cases are left out, and it raises, as `beside` says.
    """
    ours, theirs = _digests(found), _digests(baseline)
    same = {name for name, digest in ours.items() if theirs.get(name) == digest}
    ways: dict[Way, dict[str, tuple[float, float]]] = {}
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


def _change(shares: Mapping[str, tuple[float, float]]) -> Change:
    old, new = zip(*shares.values(), strict=True)
    if set(old) | set(new) <= {0.0, 1.0}:
        bounds: Interval | None = paired_change([each == 1 for each in old], [each == 1 for each in new]).interval
    else:
        bounds = interval(MEAN, [now - then for then, now in shares.values()])
    rates = sum(old) / len(shares), sum(new) / len(shares)
    return Change(
        len(shares),
        rates[0],
        rates[1],
        rates[1] - rates[0],
        bounds,
        tuple(name for name, (then, now) in shares.items() if now < then),
        tuple(name for name, (then, now) in shares.items() if now > then),
    )


def _shares(way: Mapping[str, Any]) -> dict[str, float]:
    """Of each case that was answered, the part of its answers that is right."""
    outcomes: dict[str, list[bool]] = {}
    for record in way.get("records") or ():
        outcomes.setdefault(str(record["id"]), []).append(bool(record["passed"]))
    return {name: sum(each) / len(each) for name, each in outcomes.items()}


def _digests(found: Mapping[str, Any]) -> dict[str, str]:
    return {str(case["id"]): str(case["digest"]) for case in found["cases"]}
