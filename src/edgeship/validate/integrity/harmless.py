"""Whether a package only holds data, and stays in its folder: no code, no library, no path or link that leads away."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from edgeship.engine import graph_contents
from edgeship.engine.graph_contents import GraphContents
from edgeship.errors import EdgeshipError, PackageRefused
from edgeship.package import genai_config, manifest
from edgeship.system import foreign
from edgeship.validate.integrity import code, data
from edgeship.validate.integrity.looked_at import LookedAt, judged, unreadable
from edgeship.validate.verdict import Finding

KNOWN_DOMAINS = frozenset(
    {"", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
    | {"ai.onnx.training", "ai.onnx.preview.training", "ai.onnx.preview"}
)
"""Whose operators ONNX Runtime has itself; those of any other come from a library that would have to be loaded."""
_GIT = ".git"
_TAKE_OUT = "take it out, and out of the manifest"


def findings(looked: LookedAt) -> Iterator[Finding]:
    """Of code, of ways out, and of operators."""
    folder = looked.folder
    inside = sorted(manifest.files_below(folder, besides=(_GIT,) if (folder / _GIT).is_dir() else (), hidden=True))
    faults = [f"{name}: {fault}" for name in inside if (fault := _unreadable(folder, name))]
    models = {genai_config.MODEL_FILE}
    try:
        models = {looked.config.model_file, *looked.config.files}
    except EdgeshipError as error:
        if isinstance(error, PackageRefused):
            faults.append(error.what)
    contents = dict(_graphs(folder, models, inside))
    graphs = {name: graph for name, graph in contents.items() if isinstance(graph, GraphContents)}
    yield _no_code(folder, inside, set(contents) | _with_weights(graphs))
    for name, graph in contents.items():
        if isinstance(graph, EdgeshipError):
            yield unreadable("graph", graph)
            continue
        faults += _ways_out(folder, name, graph)
    yield judged("stays-in-folder", faults, "No link, no setting and no graph leads out of its folder.")
    foreign_ones = sorted(
        {
            f"{name} needs the operator {domain}:{operator}, which ONNX Runtime does not have"
            for name, graph in graphs.items()
            for domain, operator in graph.operators
            if domain not in KNOWN_DOMAINS
        }
    )
    yield judged("known-operators", foreign_ones, "Its graph has only operators of ONNX and of ONNX Runtime.")


def _with_weights(graphs: Mapping[str, GraphContents]) -> set[str]:
    """The files with weights that graphs name, each by its name from the folder."""
    return {str(PurePosixPath(name).parent / file) for name, graph in graphs.items() for file in graph.files}


def _no_code(folder: Path, inside: Sequence[str], of_graphs: Container[str]) -> Finding:
    """of_graphs: what is a graph, or what one takes its weights from."""
    faults, executable = [], {}
    for name in inside:
        try:
            with foreign.open_file(folder / name, folder=folder) as stream:
                executable[name] = foreign.is_executable(stream)
                most = code.HEAD_BYTES if name in of_graphs else data.MOST_BYTES + 1
                content = stream.read(most)
        except (OSError, ValueError):
            content = None  # told as what leads out
        if kind := _kind(name, content, of_graphs):
            faults.append(f"{name} is {kind}")
    good = f"Each of its {len(inside)} files is data of a kind that packages hold, and none is a program or a pickle."
    marked = [name for name, is_marked in executable.items() if is_marked]
    if len(marked) < len(executable):
        faults += [f"{name} is marked as executable, which data need not be" for name in marked]
    elif marked:
        good += " Each is marked as executable, as file systems do that know no such mark."
    if (folder / _GIT).is_dir():
        good += f" What Git keeps in {_GIT} was not looked at."
    return judged("no-code", faults, good)


def _kind(name: str, content: bytes | None, of_graphs: Container[str]) -> str | None:
    """What a file is that a package may not hold, as words behind "is"; None for one that it may."""
    if (kind := code.kind_of(name, (content or b"")[: code.HEAD_BYTES])) is not None or content is None:
        return kind
    if name in of_graphs:
        return None
    if len(content) > data.MOST_BYTES:
        return f"larger than {data.MOST_BYTES >> 20} MiB, and no graph takes weights from it: {_TAKE_OUT}"
    fault = data.fault(name, content)
    return fault and f"{fault}: {_TAKE_OUT}"


def _unreadable(folder: Path, name: str) -> str | None:
    """Why a file is not read, such as a link that leads out."""
    try:
        foreign.require_readable(folder / name, folder=folder)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _graphs(
    folder: Path, models: Container[str], inside: Sequence[str]
) -> Iterator[tuple[str, GraphContents | EdgeshipError]]:
    """Of every graph in the folder; those that are run, of `models`, may have any name that no other kind has."""
    for name in inside:
        is_graph = name.lower().endswith(".onnx") or (name in models and not data.is_known(name))
        if is_graph and not _unreadable(folder, name):
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
