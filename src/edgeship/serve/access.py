"""Who may ask from where: a page of another site must not reach a server that only its own machine can reach.

A browser sends a page's requests anywhere, and a site can make its own name mean 127.0.0.1 ("DNS rebinding"). So a
server goes by the names that it was given, and by addresses, which no site can make mean something else; and a page
of another origin is refused unless it was let in.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from edgeship.errors import OriginRefused
from edgeship.serve.bodies import Application, Receive, Refuse, Scope, Send

ANY = "*"
_LOCAL = "localhost"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == _LOCAL


def names_of(host: str, allowed: Sequence[str]) -> frozenset[str]:
    """The names that a server goes by which listens at `host`: that, those which are allowed besides, the machine's."""
    return frozenset(name.lower().rstrip(".") for name in (_LOCAL, host, socket.gethostname(), *allowed))


class Gate:
    """Wraps an application. names: what the server is called; "*" lets every name in. origins: pages that may ask."""

    def __init__(self, app: Application, *, names: Collection[str], origins: Collection[str], refuse: Refuse) -> None:
        self._app, self._names, self._refuse = app, names, refuse
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(Headers(scope=scope))
            except OriginRefused as error:
                await self._refuse(scope, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) > 1 or not all(self._goes_by(host) for host in hosts):
            raise OriginRefused(
                f"this server does not go by the name {', '.join(hosts)!r}",
                hint="Ask it by an address, or start it with --allowed-host NAME.",
            )
        origin = headers.get("origin")
        if origin is not None and not self._lets_in(origin, hosts):
            raise OriginRefused(
                f"pages of {origin!r} may not ask this server", hint="Start it with --cors-origin ORIGIN to let them."
            )

    def _goes_by(self, host: str) -> bool:
        if ANY in self._names:
            return True
        name = _name_in(host)
        if name is None:
            return False
        return _is_address(name) or name in self._names or name.endswith(f".{_LOCAL}")

    def _lets_in(self, origin: str, hosts: Sequence[str]) -> bool:
        if ANY in self._origins or origin.lower() in self._origins:
            return True
        # An origin is a scheme and an authority, and nothing that would have to be parsed.
        return bool(hosts) and origin.lower().partition("://")[2] == hosts[0].lower()


def _name_in(host: str) -> str | None:
    """The name or address in a Host header, without its port; None where there is none."""
    try:
        found = urlsplit(f"//{host}")
        _ = found.port  # raises where it is no number
    except ValueError:
        return None
    plain = not (found.username or found.path or found.query or found.fragment)
    return found.hostname.rstrip(".") if plain and found.hostname else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
