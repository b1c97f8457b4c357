"""The laws of docs/architecture.md, kept by reading the source's imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "edgeship"

# What every room may import, and what imports nothing but these.
LEAVES = {"errors", "package", "progress", "recipe", "settings", "system", "version"}
# One direction of flow: a room may import the rooms before it, and the leaves.
ROOMS = ("checkpoint", "builder", "store", "engine", "foundry", "measure", "ship", "cli")
# Modules beside the one that gives a room its name.
ROOM_OF = {"__main__": "cli", "doctor": "checkpoint"}
WINGS = ({"builder"}, {"engine", "foundry", "measure"})
# The module that adapts a heavy library, and nobody else.
HEAVY = {
    "torch": {"measure.reference.of_checkpoint"},
    "transformers": {"measure.reference.of_checkpoint", "builder.genai_worker", "builder.olive_worker"},
    "peft": {"measure.reference.of_checkpoint"},
    "onnxruntime": {"doctor", "builder.onnx_model", "builder.olive_worker", "engine.decoders.onnx"},
    "onnxruntime_genai": {"engine.decoders.genai", "builder.genai_worker"},
    "onnx": set[str](),
    "onnx_ir": {"builder.graph", "builder.onnx_model", "engine.decoders.step_graph"},
    "llguidance": {"engine.grammar"},
    "huggingface_hub": {"checkpoint.hub"},
    "foundry_local_sdk": {"foundry.sdk"},
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Each imported dotted name, and whether it happens when the module is imported."""
    inside = {
        id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) not in inside
            yield from ((f"{node.module}.{alias.name}", id(node) not in inside) for alias in node.names)


def room(module: str) -> str:
    top = module.split(".")[0]
    return ROOM_OF.get(top, top)


@pytest.mark.parametrize(("name", "tree"), [pytest.param(*item, id=item[0]) for item in modules()])
def test_imports_only_point_left(name: str, tree: ast.Module) -> None:
    if name == "__init__":
        return
    here = room(name)
    assert here in ROOMS or here in LEAVES, f"{name} belongs to no room: add it to ROOMS, LEAVES or ROOM_OF"
    for imported, _ in imports(tree):
        if not imported.startswith("edgeship."):
            continue
        there = room(imported.removeprefix("edgeship."))
        if there in LEAVES or there not in ROOMS or there == here:
            continue
        assert here not in LEAVES, f"{name} is a leaf and must not import {imported}"
        assert ROOMS.index(there) < ROOMS.index(here), f"{name} must not import {imported}: it lies to its right"


@pytest.mark.parametrize(("name", "tree"), [pytest.param(*item, id=item[0]) for item in modules()])
def test_making_and_running_do_not_know_each_other(name: str, tree: ast.Module) -> None:
    for one, other in (WINGS, WINGS[::-1]):
        if room(name) in one:
            met = [
                there
                for there, _ in imports(tree)
                if room(there.removeprefix("edgeship.")) in other and there.startswith("edgeship.")
            ]
            assert not met, f"{name} imports {met}"


@pytest.mark.parametrize(("name", "tree"), [pytest.param(*item, id=item[0]) for item in modules()])
def test_heavy_libraries_have_one_door_and_are_imported_late(name: str, tree: ast.Module) -> None:
    for imported, at_once in imports(tree):
        library = imported.split(".")[0]
        if library in HEAVY:
            assert name in HEAVY[library], f"{name} imports {library}; only {HEAVY[library]} may"
            assert not at_once, f"{name} imports {library} when it is imported; do it inside a function"


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "common", "base", "helpers", "manager"}
    assert not [name for name, _ in modules() if name.split(".")[-1] in drawers]


@pytest.mark.parametrize("arguments", [["--help"], ["cache", "ls"], ["model", "ls", "--json"]])
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from edgeship.cli import main\n"
        f"code = main({arguments!r})\n"
        f"loaded = sorted(set(sys.modules) & {set(HEAVY) | {'numpy', 'tokenizers', 'jinja2'}!r})\n"
        "print(loaded, file=sys.stderr); sys.exit(code or bool(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
