"""What started this process and watches over it, where that wants to know how it goes: systemd with Type=notify."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress


def tell(state: str) -> None:
    """Sends a state such as READY=1 or STOPPING=1; whoever does not listen misses nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or sys.platform == "win32":
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
