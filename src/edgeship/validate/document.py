"""A verdict as JSON: what `--json` prints, `--out` keeps and an attestation holds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from edgeship.measure import document
from edgeship.system.text import without_halves
from edgeship.validate.subject import Effort
from edgeship.validate.told import asked, headline
from edgeship.validate.verdict import CheckName, CheckResult, Verdict, as_dict


def verdict_document(
    verdict: Verdict,
    off: Mapping[CheckName, str],
    memory_bytes: int | None = None,
    *,
    effort: Effort = "default",
    only: Collection[CheckName] = (),
) -> dict[str, Any]:
    """The whole verdict, which does not read as one of the whole gate where it is none.

    off: checks that a gate file turned off, with its reasons, which a reader is to see again. only: the checks that
    were asked for, where not all were.
    """
    found = {
        "target": {"name": verdict.target, "kind": verdict.kind, "digest": verdict.digest},
        "outcome": verdict.outcome,
        "told": headline(verdict),
        "complete": not verdict.interrupted,
        "took_s": verdict.took_s,
        "effort": effort,
        "only": list(only),
        "off": dict(off),
        "checks": {check.check: _check(check) for check in verdict.checks},
    }
    kept: dict[str, Any] = _as_json(document.head("verdict", memory_bytes) | found)
    return kept


def _check(check: CheckResult) -> dict[str, Any]:
    """As it is, with what was asked in words beside each request."""
    found = as_dict(check)
    for finding in found["findings"]:
        finding["evidence"] = [one | {"asked": asked(one["request"])} for one in finding["evidence"]]
    return found


def _as_json(value: Any) -> Any:
    """The same in JSON that every reader takes: no half characters, no figure that is none, nothing that is no value.

    What was sent to a target may be anything; how it is asked again is the business of who wrote the request.
    """
    if isinstance(value, Mapping):
        return {without_halves(str(key)): _as_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return without_halves(value if isinstance(value, str) else str(value))
