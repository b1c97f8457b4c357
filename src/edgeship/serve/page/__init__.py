"""The page at `/`: a chat over the same API that other clients use, and what is known of each model.

Its files lie in files/ as they are sent: no build step, nothing from elsewhere.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from edgeship.errors import NotFound
from edgeship.serve.page import about
from edgeship.serve.server import server_of
from edgeship.system import foreign

router = APIRouter(include_in_schema=False)

INDEX = "index.html"
_FOLDER = Path(__file__).parent / "files"
# Stated here, since a system's own table may call a script plain text, which browsers then refuse to run.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    # A text that a script hands over as HTML is refused by the browser, whoever wrote the text.
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Asked for again each time: after an upgrade no old script meets a new page.
    "cache-control": "no-cache",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str


@functools.cache
def _files() -> dict[str, _File]:
    """Each of the page's files by its name: what is not among them is not sent."""
    return {path.name: _read(path) for path in _FOLDER.iterdir() if path.suffix in _TYPES}


def _read(path: Path) -> _File:
    content = foreign.read_bytes(path)
    return _File(content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


# HEAD is answered as Ollama's clients want it, in ollama/models.py.
@router.get("/")
async def index(request: Request) -> Response:
    """The page."""
    return _sent(request, INDEX)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def file(name: str, request: Request) -> Response:
    """One of the files that the page is made of."""
    return _sent(request, name)


@router.get("/page/models/{name:path}")
def model(name: str, request: Request) -> dict[str, Any]:
    """What the page shows of a model. No coroutine: files are read, which others do not wait for."""
    return about.told(server_of(request).pool.find(name))


def _sent(request: Request, name: str) -> Response:
    found = _files().get(name)
    if found is None:
        raise NotFound(f"the page has no file {name!r}")
    headers = HEADERS | {"etag": found.etag}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.content, headers=headers, media_type=found.media_type)
