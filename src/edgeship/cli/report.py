"""`edgeship report`: measurements that were kept, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeship.cli.options import Json, as_path
from edgeship.cli.output import print_facts, require_places

DEFAULT = Path("report.html")

Documents = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="What bench, eval, compare, validate or ship wrote as JSON, or a folder with ship's report.json.",
        parser=as_path,
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The page to write.", parser=as_path)]


def report(documents: Documents, out: Out = DEFAULT, as_json: Json = False) -> int:
    """Show measurements on one page of HTML that needs nothing else; several of a kind beside each other over time."""
    from edgeship.measure import document
    from edgeship.measure.report.page import documents as pages
    from edgeship.measure.report.page.rendering import render
    from edgeship.system.storage import disk_errors, write_named

    require_places(out, reads=(path for path in documents if path.is_file()))
    found = [document.read(path) for path in documents]
    with disk_errors(out.absolute().parent, "name a file elsewhere."):
        write_named(out, render(pages.page(found)))
    kinds = [{"file": str(one.path), "kind": one.kind, "created": one.created} for one in found]
    return print_facts({"report": str(out), "documents": kinds}, f"report: {out}", as_json=as_json)
