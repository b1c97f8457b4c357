"""No telemetry: what switches off that of the libraries we use, before they are loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

OFF = {
    # onnxruntime and onnxruntime-genai read it when they are loaded. Their `disable_telemetry_events` comes too late:
    # by then a device id and a database for what is to be sent lie in the user's home.
    "ORT_DISABLE_TELEMETRY": "1",
    # Foundry Local's own switch; see `foundry_quiet` for what it leaves on.
    "ORT_TELEMETRY_DISABLED": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""For this process and its children."""


def switch_off() -> None:
    """To be called before a library is imported that would send something."""
    os.environ.update(OFF)


@contextmanager
def foundry_quiet() -> Iterator[None]:
    """Foundry Local sends nothing at all where it starts within.

    With its switch off it still sends what machine, system and process it runs in ("ProcessInfo"). Only where it
    believes that it runs in continuous integration, nothing leaves the machine; it looks once, when it starts.
    """
    switch_off()
    before = os.environ.get("CI")
    os.environ["CI"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before
