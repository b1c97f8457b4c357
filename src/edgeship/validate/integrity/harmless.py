"""Whether a package only holds data, and stays in its folder: no code, no library, no path or link that leads away."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edgeship.engine import graph_contents
from edgeship.engine.graph_contents import GraphContents
from edgeship.errors import EdgeshipError, PackageRefused
from edgeship.package import genai_config
from edgeship.system import foreign
from edgeship.validate.integrity.looked_at import LookedAt, judged, unreadable
from edgeship.validate.verdict import Finding

KNOWN_DOMAINS = frozenset(
    {"", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
    | {"ai.onnx.training", "ai.onnx.preview.training", "ai.onnx.preview"}
)
"""Whose operators ONNX Runtime has itself; those of any other come from a library that would have to be loaded."""
_PROGRAMS = frozenset(
    ".so .dll .dylib .pyd .exe .com .msi .sys .scr .node .wasm .jar .class .app .elf .ko .o .a .lib".split()  # noqa: SIM905
)
_SCRIPTS = frozenset(
    ".py .pyc .pyw .sh .bash .zsh .bat .cmd .ps1 .vbs .js .mjs .cjs .rb .pl .php .lua".split()  # noqa: SIM905
)
_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill"})
_MAGIC = {
    b"\x7fELF": "a program or library of Linux",
    b"\xfe\xed\xfa\xce": "a program or library of macOS",
    b"\xfe\xed\xfa\xcf": "a program or library of macOS",
    b"\xce\xfa\xed\xfe": "a program or library of macOS",
    b"\xcf\xfa\xed\xfe": "a program or library of macOS",
    b"\xca\xfe\xba\xbe": "a program or library of macOS, or a class of Java",
    b"\0asm": "a module of WebAssembly",
}
_HEAD_BYTES, _PE_AT = 4096, 0x3C


def findings(looked: LookedAt) -> Iterator[Finding]:
    """Of code, of ways out, and of operators."""
    inside = sorted(_files(looked.folder))
    code = [f"{name} is {kind}" for name in inside if (kind := _code(looked.folder, name))]
    yield judged("no-code", code, f"None of its {len(inside)} files is a program, a library, a script or a pickle.")
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
    yield judged("stays-inside", faults, "No link, no setting and no graph leads out of its folder.")
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
    """Those that are no folder, by their names from here. What begins with a dot no reader looks at."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from (f"{path.name}/{name}" for name in _files(path))
        else:
            yield path.name


def _code(folder: Path, name: str) -> str | None:
    """What kind of code a file is, by its name or its first bytes; None for none."""
    suffixes = {suffix.lower() for suffix in PurePosixPath(name).suffixes}
    last = PurePosixPath(name).suffix.lower()
    if last in _PROGRAMS or ".so" in suffixes:
        return "a program or a library by its name"
    if last in _SCRIPTS:
        return "a script by its name"
    if last in _PICKLES:
        return "a pickle by its name, and reading one runs what it says"
    try:
        with foreign.open_file(folder / name, folder=folder) as stream:
            head = stream.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return None  # told as what leads out
    return _kind(head)


def _kind(head: bytes) -> str | None:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head.startswith(b"MZ") and len(head) > _PE_AT + 4:
        [place] = struct.unpack_from("<I", head, _PE_AT)  # weights may begin with two letters by chance
        if head[place : place + 4] == b"PE\0\0":
            return "a program or library of Windows"
    if head.startswith(b"#!/") and b"\0" not in head:
        return "a script by its first line"
    return None


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
