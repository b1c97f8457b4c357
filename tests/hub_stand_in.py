"""A stand-in for the Hugging Face Hub: the part of its HTTP API that a download uses, over folders of this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

OLD, NEW = "1" * 40, "2" * 40


@dataclass
class Hub:
    """What is served: commits of one model, and faults to play.

    truncate: GET answers of these files end halfway. refuse: every request is answered with this status and error code.
    requests: "METHOD path" of every request, in order.
    """

    repo: str = "org/tiny"
    commits: dict[str, Path] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    truncate: tuple[str, ...] = ()
    refuse: tuple[int, str] | None = None
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def commit(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit; None where there is none."""
        name = self.refs.get(revision, revision)
        return name if name in self.commits else None


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serves `hub` on a port of its own; sets its url."""

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        del format, args

    def _answer(self) -> None:
        hub, path = self.served, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        api, resolve = f"/api/models/{hub.repo}", f"/{hub.repo}/resolve/"
        if hub.refuse is not None:
            self._send(hub.refuse[0], b"{}", {"X-Error-Code": hub.refuse[1]})
        elif path == api:
            self._info("main")
        elif path.startswith(f"{api}/revision/"):
            self._info(path.removeprefix(f"{api}/revision/"))
        elif path.startswith(f"{api}/tree/"):
            self._tree(path.removeprefix(f"{api}/tree/"))
        elif path.startswith(resolve):
            self._file(*path.removeprefix(resolve).split("/", 1))
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _info(self, revision: str) -> None:
        commit = self.served.commit(revision)
        if commit is None:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = [{"rfilename": path.name} for path in sorted(self.served.commits[commit].iterdir())]
        self._send_json({"id": self.served.repo, "sha": commit, "siblings": siblings})

    def _tree(self, revision: str) -> None:
        commit = self.served.commit(revision)
        if commit is None:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        files = sorted(self.served.commits[commit].iterdir())
        self._send_json(
            [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _etag(path.read_bytes())}
                for path in files
            ]
        )

    def _file(self, revision: str, name: str) -> None:
        commit = self.served.commit(revision)
        path = self.served.commits[commit] / name if commit else Path()
        if commit is None or not path.is_file():
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        body = path.read_bytes()
        headers = {"ETag": f'"{_etag(body)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        status, start = 200, 0
        asked = self.headers.get("Range")
        if asked and self.command == "GET":
            status, start = 206, int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._send(status, body[start:], headers, cut=name in self.served.truncate)

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut


def _etag(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()
