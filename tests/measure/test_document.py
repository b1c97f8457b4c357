from __future__ import annotations

from edgeship.measure import document
from edgeship.version import __version__


def test_a_document_says_what_it_is_by_which_version_when_and_where() -> None:
    head = document.head("bench", memory_limit_bytes=1 << 30)

    assert head["schema"] == "edgeship/bench/1"
    assert head["edgeship"] == __version__
    assert head["created"].endswith("Z")
    assert head["machine"]["memory_total_bytes"] <= 1 << 30
