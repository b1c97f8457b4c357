"""The address of a server with an API like OpenAI's, as people write it."""

from __future__ import annotations

from urllib.parse import urlsplit

from edgeship.errors import UsageError


def read(text: str) -> str:
    """A URL with the path of its API, /v1 where none is given. Raises UsageError, which tells no password."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _faulty("it cannot be read", "") from error
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    shown = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    if parts.scheme not in ("http", "https"):
        raise _faulty(f"{parts.scheme} is not spoken here", shown)
    if not host or not text.isprintable() or " " in text:
        raise _faulty("it names no host", shown)
    if parts.username is not None or parts.password is not None:
        raise _faulty("a key does not belong into it, where logs and lists of processes show it", shown)
    if parts.query or parts.fragment:
        raise _faulty("it has a '?' or '#'", shown)
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return shown + (path or "/v1")


def _faulty(why: str, shown: str) -> UsageError:
    return UsageError(
        f"no address of a server: {why}",
        where=shown or None,
        hint="Write http://HOST:PORT or https://HOST/PATH. A key is given by itself: see --api-key-env.",
    )
