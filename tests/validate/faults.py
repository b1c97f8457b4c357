"""Faults that a server or its model can have, each put in at one place: around the chat, or around the application."""

from __future__ import annotations

from collections.abc import Mapping

from edgeship.validate.verdict import CheckName
from tests.validate.chat_faults import (
    FailsOnEmpty,
    Fault,
    HoldsMuch,
    IgnoresCancel,
    IgnoresDeadlines,
    IgnoresMaxTokens,
    IgnoresSeed,
    KeepsSlots,
    LeaksCut,
    LeaksHandles,
    LeaksMemory,
    LeaksStops,
    LeaksThreads,
    LiesAboutUsage,
    SeesNeighbours,
    Slow,
    SlowsQuadratically,
)
from tests.validate.http_faults import (
    Around,
    ChangesIds,
    CutsCharacters,
    LeavesOutFinish,
    LeavesOutTheEnd,
    NamesNoModel,
    NeverEnds,
    NoticesNoEnd,
    ReplacesCharacters,
    SaysAnotherLength,
    TellsOtherTypes,
)

IN_CHAT: Mapping[str, type[Fault]] = {
    "none": Fault,
    "leaks-memory": LeaksMemory,
    "leaks-handles": LeaksHandles,
    "leaks-threads": LeaksThreads,
    "leaks-cut": LeaksCut,
    "holds-much": HoldsMuch,
    "ignores-max-tokens": IgnoresMaxTokens,
    "ignores-seed": IgnoresSeed,
    "fails-on-empty": FailsOnEmpty,
    "slows-quadratically": SlowsQuadratically,
    "slow": Slow,
    "sees-neighbours": SeesNeighbours,
    "keeps-slots": KeepsSlots,
    "ignores-cancel": IgnoresCancel,
    "ignores-deadlines": IgnoresDeadlines,
    "lies-about-usage": LiesAboutUsage,
    "leaks-stops": LeaksStops,
}
AROUND: Mapping[str, type[Around]] = {
    "says-another-length": SaysAnotherLength,
    "leaves-out-the-end": LeavesOutTheEnd,
    "leaves-out-finish": LeavesOutFinish,
    "tells-other-types": TellsOtherTypes,
    "names-no-model": NamesNoModel,
    "changes-ids": ChangesIds,
    "cuts-characters": CutsCharacters,
    "replaces-characters": ReplacesCharacters,
    "never-ends": NeverEnds,
    "notices-no-end": NoticesNoEnd,
}
FAULTS = (*IN_CHAT, *AROUND)
CAUGHT_BY: Mapping[str, CheckName] = {
    "leaks-memory": "leaks",
    "leaks-handles": "leaks",
    "leaks-threads": "leaks",
    "leaks-cut": "leaks",
    "ignores-max-tokens": "conformance",
    "ignores-seed": "determinism",
    "fails-on-empty": "edges",
    "slows-quadratically": "lengths",
    "sees-neighbours": "determinism",
    "keeps-slots": "recovery",
    "ignores-cancel": "recovery",
    "lies-about-usage": "conformance",
    "leaks-stops": "conformance",
    "says-another-length": "integrity",
    "leaves-out-the-end": "conformance",
    "leaves-out-finish": "conformance",
    "tells-other-types": "conformance",
    "names-no-model": "conformance",
    "changes-ids": "conformance",
    "cuts-characters": "conformance",
    "replaces-characters": "conformance",
    "never-ends": "conformance",
    "notices-no-end": "recovery",
}
"""The check that each belongs to, but for those that only a comparison with another version shows, and for deadlines
that are ignored: no request over HTTP names one."""
