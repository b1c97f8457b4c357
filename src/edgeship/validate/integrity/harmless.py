"""Whether a package only holds data, and stays in its folder: no code, no library, no path or link that leads away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeship.engine import graph_contents
from edgeship.engine.graph_contents import GraphContents
from edgeship.errors import EdgeshipError, PackageRefused
from edgeship.package import genai_config
from edgeship.system import foreign
from edgeship.validate.integrity import code
from edgeship.validate.integrity.looked_at import LookedAt, judged, unreadable
from edgeship.validate.verdict import Finding

KNOWN_DOMAINS = frozenset(
    {"", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
    | {"ai.onnx.training", "ai.onnx.preview.training", "ai.onnx.preview"}
)
"""Whose operators ONNX Runtime has itself; those of any other come from a library that would have to be loaded."""
_GIT = ".git"


def findings(looked: LookedAt) -> Iterator[Finding]:
    """Of code, of ways out, and of operators."""
    inside = sorted(name for name in _files(looked.folder) if not name.startswith(f"{_GIT}/"))
    yield _no_code(looked.folder, inside)
    faults = [f"{name}: {fault}" for name in inside if (fault := _unreadable(looked.folder, name))]
    model = genai_config.MODEL_FILE
    try:
        model = looked.config.model_file
    except PackageRefused as error:
        faults.append(error.what)
    contents = dict(_graphs(looked.folder, model, inside))
    for name, graph in contents.items():
        if isinstance(graph, EdgeshipError):
            yield unreadable("graph", graph)
            continue
        faults += _ways_out(looked.folder, name, graph)
    yield judged("stays-in-folder", faults, "No link, no setting and no graph leads out of its folder.")
    foreign_ones = sorted(
        {
            f"{name} needs the operator {domain}:{operator}, which ONNX Runtime does not have"
            for name, graph in contents.items()
            if isinstance(graph, GraphContents)
            for domain, operator in graph.operators
            if domain not in KNOWN_DOMAINS
        }
    )
    yield judged("known-operators", foreign_ones, "Its graph has only operators of ONNX and of ONNX Runtime.")


def _files(folder: Path) -> Iterator[str]:
    """Those that are no folder, by their names from here; also what begins with a dot."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield from (f"{path.name}/{name}" for name in _files(path))
        else:
            yield path.name


def _no_code(folder: Path, inside: Sequence[str]) -> Finding:
    faults, executable = [], {}
    for name in inside:
        try:
            with foreign.open_file(folder / name, folder=folder) as stream:
                head, executable[name] = stream.read(code.HEAD_BYTES), foreign.is_executable(stream)
        except (OSError, ValueError):
            head = b""  # told as what leads out
        if kind := code.kind_of(name, head):
            faults.append(f"{name} is {kind}")
    good = f"None of its {len(inside)} files is a program, a library, a script, an archive or a pickle."
    marked = [name for name, is_marked in executable.items() if is_marked]
    if len(marked) < len(executable):
        faults += [f"{name} is marked as executable, which data need not be" for name in marked]
    elif marked:
        good += " Each is marked as executable, as file systems do that know no such mark."
    if (folder / _GIT).is_dir():
        good += f" What Git keeps in {_GIT} was not looked at."
    return judged("no-code", faults, good)


def _unreadable(folder: Path, name: str) -> str | None:
    """Why a file is not read, such as a link that leads out."""
    try:
        foreign.require_readable(folder / name, folder=folder)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _graphs(folder: Path, model: str, inside: list[str]) -> Iterator[tuple[str, GraphContents | EdgeshipError]]:
    """Of every graph in the folder; the one that is run, `model`, may have any name."""
    for name in inside:
        if (name == model or name.endswith(".onnx")) and not _unreadable(folder, name):
            try:
                yield name, graph_contents.read(folder / name)
            except EdgeshipError as error:
                yield name, error


def _ways_out(folder: Path, name: str, graph: GraphContents) -> Iterator[str]:
    """What is wrong with the files that a graph names; it names them from where it lies itself."""
    beside = (folder / name).parent
    for file, needed in sorted(graph.files.items()):
        if not foreign.stays_inside(file):
            yield f"{name} has weights in {file!r}, which leads out of the folder"
        elif not (beside / file).is_file():
            yield f"{name} has weights in {file}, which is missing"
        elif (there := (beside / file).stat().st_size) < needed:
            yield f"{name} has weights in {file} up to byte {needed:,}, and that ends at {there:,}"
