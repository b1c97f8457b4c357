"""What is told while a file is written."""

from __future__ import annotations

import pytest

from edgeship.builder import processes


def test_the_time_left_is_told_once_enough_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    # What the clock says as the meter begins, and each time that it is told.
    clock = iter((0.0, 1.0, 20.0, 30.0))
    monkeypatch.setattr("edgeship.builder.processes.time.monotonic", lambda: next(clock))
    told: list[str] = []
    meter = processes.Meter(200_000_000, lambda text, _: told.append(text))
    for fraction in (0.0, 0.02, 0.5):
        meter.tell(0, fraction)
    assert told == ["convert: 4 of 200 MB", "convert: 100 of 200 MB, 30 s left"]
