"""What people look at of a measurement."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.measure.measurement import figures

MEASURED = {
    "threads": 2,
    "size_bytes": 1_713_920,
    "speed": {"decode_tokens_per_s": {"median": 55.25, "min": 50.0, "max": 60.0}},
    "fidelity": None,
    "evaluation": {"cases": 320, "pass_rate": 0.9625},
}


def test_figures_are_those_that_are_known_in_words() -> None:
    assert figures(MEASURED) == [
        ("model files", "1.7 MB"),
        ("threads", "2"),
        ("decode", "55.2 tokens/s"),
        ("evaluation cases", "320"),
        ("evaluation pass rate", "96.2 %"),
    ]


def test_a_reference_is_named() -> None:
    fidelity = {"mean_kld_nats": 0.01}
    assert figures({"fidelity": fidelity}) == [("mean KLD from the original", "0.0100 nats")]
    named = figures({"fidelity": fidelity, "reference": "its FP32 build"})
    assert named == [("mean KLD from its FP32 build", "0.0100 nats")]


@pytest.mark.parametrize("summary", [{}, {"other": 1}, {"speed": "fast"}])
def test_what_says_nothing_gives_no_figures(summary: dict[str, Any]) -> None:
    assert figures(summary) == []
