"""Frees what it held, and comes back: answers that are cut off, clients that go, and a model's process that is killed.

Of a server that somebody else runs only clients go: its processes are not ours to kill.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeship.engine.isolated import IsolatedEngine
from edgeship.progress import Progress
from edgeship.validate.check import Check
from edgeship.validate.recovery import in_process, served
from edgeship.validate.recovery.bounds import RecoveryBounds
from edgeship.validate.server import why_none
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Finding


def _run(subject: Subject, bounds: RecoveryBounds, progress: Progress) -> Iterator[Finding]:
    if subject.target.kind != "url":
        with subject.anew() as chat:
            progress("answers are cut off", 0.0)
            yield from in_process.cut_findings(chat, bounds)
            # Where time is short the process that is killed is the one that is served.
            if isinstance(chat, IsolatedEngine) and subject.effort != "quick":
                progress("its process is killed", 0.3)
                yield in_process.killed_finding(chat, bounds)
    if reason := why_none(subject.target):
        yield Finding("client-gone-frees", "skipped", f"Clients were not looked at: {reason}.")
        return
    server = subject.server
    progress("clients go", 0.6)
    yield from served.gone_findings(server, bounds)
    if server.pid is not None:
        progress("its process is killed while it is served", 0.8)
        yield served.killed_finding(server, bounds)


CHECK = Check("recovery", "Frees what it held, and comes back", RecoveryBounds, _run)
