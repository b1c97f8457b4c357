"""`edgeship doctor`, and how what a doctor finds is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeship import settings
from edgeship.cli.options import CacheDir, Json, Memory
from edgeship.cli.output import print_json, print_table
from edgeship.cli.streams import show
from edgeship.errors import ResourceError
from edgeship.system.shell import as_typed

if TYPE_CHECKING:
    from edgeship.doctor import Examination


def doctor(as_json: Json = False, cache_dir: CacheDir = None, memory: Memory = None) -> int:
    """Check what this machine can build and run."""
    from edgeship.cli.tune import untuned
    from edgeship.doctor import examine
    from edgeship.store import listing

    current = settings.resolve(cache_dir=cache_dir, memory=memory)
    failed = [entry.ref for entry in listing.entries(current.cache_dir) if entry.is_unfit]
    return report(examine(current, untuned=untuned(current), unfit=failed), as_json=as_json)


def report(examination: Examination, *, as_json: bool) -> int:
    """Prints findings; exit 7 where one would stop the work."""
    if as_json:
        checks = [
            {"name": check.name, "status": check.status, "detail": check.detail, "hint": check.hint}
            for check in examination.checks
        ]
        print_json({"ok": examination.ok, "checks": checks})
    else:
        rows = [[check.status, check.name, check.detail] for check in examination.checks]
        print_table(["STATUS", "CHECK", "FOUND"], rows)
        for check in examination.checks:
            if check.hint:
                show(as_typed(f"{check.name}: {check.hint}"))
    return 0 if examination.ok else ResourceError.exit_code
