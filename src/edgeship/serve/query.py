"""What stands behind the question mark of a request: parameters that its route knows, each once, and no others."""

from __future__ import annotations

from collections import Counter

from fastapi import Request
from fastapi.routing import APIRoute

from edgeship.errors import RequestInvalid
from edgeship.serve import failures
from edgeship.system.fields import shown
from edgeship.system.text import meant


def check(request: Request) -> None:
    """Raises RequestInvalid for a parameter that the request's route does not know, or that is there twice."""
    route: APIRoute = request.scope["route"]
    known = [field.alias for field in route.dependant.query_params]
    given = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in given.items():
        if name not in known and not _is_label(request, name):
            close = meant(name, known)
            hint = f"Did you mean {close}?" if close else "Leave it out of the URL."
            raise RequestInvalid(f"{shown(name)} is not supported in a URL here", param=name, hint=hint)
        if count > 1:
            raise RequestInvalid(f"{name} is there {count} times in the URL", param=name, hint="Give it once.")


def _is_label(request: Request, name: str) -> bool:
    """What clients put into every URL, and no answer hangs on: Azure's `api-version`, `beta=true` of Anthropic's."""
    if name == "beta":
        return failures.is_anthropic(request.scope) and request.query_params[name] == "true"
    return name == "api-version" and request.url.path.startswith("/v1/")
