"""A verdict as JSON: what `--json` prints, `--out` keeps and an attestation holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeship.measure import document
from edgeship.validate.verdict import CheckName, Verdict, as_dict


def verdict_document(verdict: Verdict, off: Mapping[CheckName, str], memory_bytes: int | None = None) -> dict[str, Any]:
    """The whole verdict. off: checks that a gate file turned off, with its reasons, which a reader is to see again."""
    return document.head("verdict", memory_bytes) | {
        "target": {"name": verdict.target, "kind": verdict.kind, "digest": verdict.digest},
        "outcome": verdict.outcome,
        "took_s": verdict.took_s,
        "off": dict(off),
        "checks": {check.check: as_dict(check) for check in verdict.checks},
    }
