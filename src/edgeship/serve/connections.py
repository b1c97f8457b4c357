"""A client's connection, as uvicorn has it, with an end to what one client can take from the server.

uvicorn reads a request's head however long it is, queues requests that come before the last one is answered, and waits
for ever for a client that does not read. Here a head has a size, a client has one request at a time, and who reads
nothing for long is gone.
"""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgeship.errors import EdgeshipError, HeadTooLarge, HttpInvalid
from edgeship.serve import failures

_log = logging.getLogger("edgeship.serve")
# What clients send wrongly is told by ours; faults of an application go to the library's own logger as ever.
_library_log = logging.getLogger("uvicorn.error.edgeship")
_library_log.setLevel(logging.ERROR)
MOST_HEAD_BYTES = 1 << 16
"""Of a request's line and headers; of what comes between pieces of a body, and after it, too."""
_LONGER = 4
# A full buffer of a slow network becomes empty in long steps: whoever reads has so many times as long as who sends.


class Connection(HttpToolsProtocol):
    """One client. Its requests are answered one by one; one that comes too early is for another connection."""

    url = b""
    _head_bytes = 0
    _is_over = False
    """Whether nothing that comes by it counts any more."""
    _silent_s = _stuck_s = 0.0
    _unread_bytes = 0

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.logger = _library_log

    def data_received(self, data: bytes) -> None:
        """Bytes of a request came."""
        if self._is_over:
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MOST_HEAD_BYTES and not self._is_over:
            self._refuse(HeadTooLarge(f"the request's headers have more than {MOST_HEAD_BYTES} bytes"))

    def on_headers_complete(self) -> None:
        """A request is there but for its body."""
        self._head_bytes = 0
        if self._in_hand:
            # It was never answered, so a client asks again; the one in hand is answered to its end.
            self.cycle.keep_alive, self._is_over = False, True
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body came."""
        self._head_bytes = 0
        if not self._is_over:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there."""
        if not self._is_over:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature, and its words
        """What came is no HTTP."""
        self._refuse(HttpInvalid("what came is no HTTP/1.1 request"))

    def look(self, after_s: float, patience_s: float) -> None:
        """Ends it where no request came, or nothing was read, for too long. after_s: since the last look."""
        unread_bytes = self.transport.get_write_buffer_size()
        stuck = unread_bytes and unread_bytes == self._unread_bytes
        self._unread_bytes = unread_bytes
        self._stuck_s = self._stuck_s + after_s if stuck else 0.0
        self._silent_s = 0.0 if self._in_hand else self._silent_s + after_s
        if self._stuck_s > patience_s * _LONGER:
            self.transport.abort()
        elif self._silent_s > patience_s:
            self.transport.close()

    def cut(self) -> None:
        """Ends it where a request is in hand: its client does not send the rest of it, or does not read the answer."""
        if self._in_hand:
            self.transport.abort()

    @property
    def _in_hand(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: EdgeshipError) -> None:
        self._is_over = True
        _log.info("what a client sent is refused: %s", error.what)
        if self._in_hand and self.cycle.response_started:
            self.transport.abort()  # half an answer is out, and cannot be taken back
            return
        path = self.url.partition(b"?")[0].decode("latin-1")
        body = json.dumps(failures.document(path, error)).encode()
        status = HTTPStatus(error.http_status)
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()
