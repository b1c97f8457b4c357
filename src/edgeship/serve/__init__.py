"""The server: an ASGI application over a pool of models, which any ASGI server can run.

    from edgeship.serve import create_app

    app = create_app("triage-int8", "notes-int4:2")     # uvicorn module:app

`edgeship serve` runs it with uvicorn. Needs the extra `edgeship[serve]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeship.errors import DependencyMissing
from edgeship.serve.options import ServeOptions as ServeOptions

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["ServeOptions", "create_app"]


def create_app(*names: str, options: ServeOptions | None = None, **settings: Any) -> FastAPI:
    """The application, which answers for these models; for every package in the cache where none is named.

    names: what `edgeship.load` takes: NAME, NAME:VERSION, a folder, foundry:NAME, a URL.
    options: how it serves. settings: fields of ServeOptions, on top of those.
    Raises DependencyMissing without the extra, PackageNotFound, NameInvalid, UsageError.
    """
    from dataclasses import replace

    try:
        from edgeship.serve import app
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"the server needs {error.name}, which is not installed", hint="Install edgeship[serve]."
        ) from error
    return app.make(names, replace(options or ServeOptions(), **settings))
