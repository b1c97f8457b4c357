"""The laws of docs/architecture.md, kept by reading the source's imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "edgeship"

# What every room may import, and what imports nothing but these.
LEAVES = {"errors", "in_python", "package", "progress", "recipe", "settings", "system", "version"}
# One direction of flow: a room may import the rooms before it, and the leaves.
ROOMS = (
    "checkpoint",
    "builder",
    "store",
    "engine",
    "model",
    "foundry",
    "targets",
    "measure",
    "validate",
    "readers",
    "held_out",
    "release_gate",
    "preflight",
    "first_run",
    "candidates",
    "shipping",
    "comparing",
    "library",
    "serve",
    "cli",
)
# Modules beside the one that gives a room its name.
ROOM_OF = {"__main__": "cli", "doctor": "checkpoint"}
WINGS = ({"builder"}, {"engine", "foundry", "targets", "measure", "validate", "serve"})
# The module that adapts a heavy library, and nobody else.
HEAVY = {
    "torch": {"measure.agreement.reference.of_checkpoint"},
    "transformers": {"measure.agreement.reference.of_checkpoint", "builder.genai_worker", "builder.olive_worker"},
    "peft": {"measure.agreement.reference.of_checkpoint"},
    "onnxruntime": {"doctor", "builder.onnx_model", "builder.olive_worker", "engine.decoders.onnx"},
    "onnxruntime_genai": {"engine.decoders.genai", "builder.genai_worker"},
    "onnx": {"engine.decoders.expert_rows", "engine.decoders.step_graph", "engine.graph_contents"},
    "onnx_ir": {"builder.nodes", "builder.onnx_model"},
    "llguidance": {"engine.grammar"},
    "jsonschema_rs": {"measure.cases.schemas"},
    "huggingface_hub": {"checkpoint.hub"},
    "tokenizers": {"package.tokenizer"},
    "foundry_local_sdk": {"foundry.sdk"},
    "httpx2": {"engine.remote"},
    "opentelemetry": {"serve.tracing"},
}
# What only some systems have, or each in its own way: system/ asks for it in a way that all of them understand.
ONE_SYSTEMS_MODULES = {
    *("ctypes", "fcntl", "grp", "mmap", "msvcrt", "multiprocessing", "posix", "pty", "pwd", "resource", "select"),
    *("termios", "tty", "winreg"),
}
EVERY_SYSTEMS = {
    "os": {"O_WRONLY", "_exit", "devnull", "dup2", "environ", "getpid", "link", "open", "path", "read", "scandir"},
    "signal": {"SIGINT", "SIGTERM", "signal"},
}
ONE_SYSTEMS_ARGUMENTS = {"creationflags", "preexec_fn", "process_group", "shell", "start_new_session", "startupinfo"}
ONE_SYSTEMS_FOLDERS = ("/dev/", "/etc/", "/proc/", "/sys/", "/tmp/", "/var/", "C:\\")
WHICH_SYSTEM = {("os", "name"), ("sys", "platform"), ("platform", "system")}


Law = Callable[[str, ast.Module], Iterator[str]]
"""What of a module breaks it, by the module's name and its syntax tree."""


@cache
def modules() -> dict[str, ast.Module]:
    paths = {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(SOURCE.rglob("*.py"))
    }
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in paths.items()}


def broken(law: Law, *, but: str = "") -> list[str]:
    """Where a law is broken, over all modules but those of one room."""
    return [f"{name}: {what}" for name, tree in modules().items() if room(name) != but for what in law(name, tree)]


def _runs_later(node: ast.AST) -> bool:
    """A function, or what only type checkers read."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Each imported dotted name, and whether it happens when the module is imported."""
    inside = {id(node) for part in ast.walk(tree) if _runs_later(part) for node in ast.walk(part)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) not in inside
            yield from ((f"{node.module}.{alias.name}", id(node) not in inside) for alias in node.names)


def room(module: str) -> str:
    top = module.split(".")[0]
    return ROOM_OF.get(top, top)


def ours(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each of our own modules that a module imports, and its room."""
    for imported, _ in imports(tree):
        if imported.startswith("edgeship."):
            yield imported, room(imported.removeprefix("edgeship."))


def test_imports_only_point_left() -> None:
    def law(name: str, tree: ast.Module) -> Iterator[str]:
        here = room(name)
        if name == "__init__":
            return
        if here not in ROOMS and here not in LEAVES:
            yield "belongs to no room: add it to ROOMS, LEAVES or ROOM_OF"
            return
        for imported, there in ours(tree):
            if there in LEAVES or there not in ROOMS or there == here:
                continue
            if here in LEAVES:
                yield f"is a leaf and must not import {imported}"
            elif ROOMS.index(there) > ROOMS.index(here):
                yield f"must not import {imported}: it lies to its right"

    assert not broken(law)


def test_making_and_running_do_not_know_each_other() -> None:
    def law(name: str, tree: ast.Module) -> Iterator[str]:
        for one, other in (WINGS, WINGS[::-1]):
            if room(name) in one:
                yield from (f"imports {imported}" for imported, there in ours(tree) if there in other)

    assert not broken(law)


def test_heavy_libraries_have_one_door_and_are_imported_late() -> None:
    def law(name: str, tree: ast.Module) -> Iterator[str]:
        for imported, at_once in imports(tree):
            library = imported.split(".")[0]
            if library in HEAVY and name not in HEAVY[library]:
                yield f"imports {library}; only {HEAVY[library]} may"
            elif library in HEAVY and at_once:
                yield f"imports {library} when it is imported; do it inside a function"

    assert not broken(law)


def test_what_only_some_systems_have_is_asked_of_system() -> None:
    """What is found moves into system/, where the other systems are thought of."""
    assert not broken(lambda _, tree: of_one_system(tree), but="system")


def of_one_system(tree: ast.Module) -> Iterator[str]:
    yield from (imported for imported, _ in imports(tree) if imported.split(".")[0] in ONE_SYSTEMS_MODULES)
    for module, member in members(tree):
        if (module, member) in WHICH_SYSTEM or member not in EVERY_SYSTEMS.get(module, {member}):
            yield f"{module}.{member}"
    texts = documentation(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ONE_SYSTEMS_ARGUMENTS:
            yield f"{node.arg}="
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield from (node.value for folder in ONE_SYSTEMS_FOLDERS if node.value.startswith(folder))


def members(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What is taken from a module: by a dot, by getattr and hasattr, and by an import from it."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=member):
                yield module, member
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr"), args=[ast.Name(id=module), ast.Constant(value=str(member)), *_]
            ):
                yield module, member
            case ast.ImportFrom(module=str(module), names=names):
                yield from ((module, alias.name) for alias in names)


def documentation(tree: ast.Module) -> set[int]:
    """The docstrings, by their id: what they mention is not used."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


@pytest.mark.parametrize(
    "code",
    [
        "import fcntl",
        "def f():\n    from resource import getrusage",
        "import os\nos.fork()",
        "import os\nhasattr(os, 'sched_getaffinity')",
        "from os import killpg",
        "import signal\nsignal.SIGKILL",
        "import sys\nsys.platform == 'win32'",
        "open('/proc/self/status')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
    ],
)
def test_the_law_of_systems_finds(code: str) -> None:
    assert list(of_one_system(ast.parse(code)))


def test_text_is_written_by_system() -> None:
    """Its write_file and write_object: whole or not at all, UTF-8, with the same line ends on every system."""

    def law(_: str, tree: ast.Module) -> Iterator[str]:
        yield from (name for node in ast.walk(tree) if (name := getattr(node, "attr", "")) == "write_text")

    assert not broken(law, but="system")


def test_text_is_read_in_a_stated_encoding() -> None:
    """Each system has a default of its own."""
    assert not broken(lambda _, tree: of_unstated_encoding(tree))


def of_unstated_encoding(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="foreign"))):
                continue
            case ast.Call(func=ast.Attribute(attr="read_text" | "write_text")):
                text = True
            case ast.Call(func=ast.Name(id="open") | ast.Attribute(value=ast.Name(id="os"), attr="fdopen")):
                text = "b" not in mode(node, 1)
            case ast.Call(func=ast.Attribute(attr="open")):
                # A path's, where the mode comes first.
                text = bool(mode(node, 0)) and "b" not in mode(node, 0)
            case _:
                continue
        if text and "encoding" not in {keyword.arg for keyword in node.keywords}:
            yield ast.unparse(node)


def mode(call: ast.Call, place: int) -> str:
    """The mode in which a file is opened, where the call states it."""
    values = [*call.args[place : place + 1], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    texts = [str(value.value) for value in values if isinstance(value, ast.Constant)]
    return next((text for text in texts if text and set(text) <= set("rwaxbt+")), "")


@pytest.mark.parametrize(
    "code", ["path.read_text()", "open(path)", "path.open('a')", "os.fdopen(1, 'w')", "open(path, mode='w')"]
)
def test_the_law_of_encodings_finds(code: str) -> None:
    assert list(of_unstated_encoding(ast.parse(code)))
    assert not list(of_unstated_encoding(ast.parse(f"{code[:-1]}, encoding='utf-8')".replace("(, ", "("))))


# Who reads files that Edgeship itself has written, and no others.
OF_OUR_OWN = {
    f"builder.{name}"
    for name in ("data_file", "olive_env", "onnx_model", "packaging", "steps", "stream_worker", "walk")
}


def test_files_that_others_made_are_opened_by_system() -> None:
    """Its foreign.py: regular files, of a bounded size, and no link that leads out of the folder."""

    def law(name: str, tree: ast.Module) -> Iterator[str]:
        if name not in OF_OUR_OWN:
            yield from of_raw_reading(tree)

    assert not broken(law, but="system")


def of_raw_reading(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="foreign" | "safetensors_file"))):
                continue
            case ast.Call(func=ast.Attribute(attr="read_text" | "read_bytes" | "from_file" | "memmap" | "fromfile")):
                opens_it = not (node.args and isinstance(node.args[0], ast.Name) and node.args[0].id == "stream")
            case ast.Call(func=ast.Attribute(value=ast.Name(id="shutil"), attr=copies)):
                opens_it = copies.startswith("copy")
            case ast.Call(func=ast.Attribute(attr="open") | ast.Name(id="open")):
                opens_it = "r" in (mode(node, 0) or mode(node, 1))
            case _:
                continue
        if opens_it:
            yield ast.unparse(node)


@pytest.mark.parametrize(
    "code",
    ["path.read_bytes()", "path.open('rb')", "open(path, 'r')", "np.fromfile(path)", "shutil.copyfile(path, other)"],
)
def test_the_law_of_files_that_others_made_finds(code: str) -> None:
    assert list(of_raw_reading(ast.parse(code)))


def test_what_reaches_a_terminal_passes_one_filter() -> None:
    """`show` and `say` of cli/streams.py; what strangers wrote could steer a terminal otherwise."""

    def law(name: str, tree: ast.Module) -> Iterator[str]:
        if room(name) == "cli" and name != "cli.streams":
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                    yield ast.unparse(node)

    assert not broken(law)


# What a package folder says is read in package/ alone, and this is what its files are called there.
FILES = {"genai_config.json", "inference_model.json", "chat_template.jinja", "edgeship.json"}
FILES |= {"tokenizer_config.json", "special_tokens_map.json"}


def test_the_files_of_a_package_are_named_where_they_are_read() -> None:
    """Whoever needs what they say asks package/ for it."""

    def law(_: str, tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in FILES:
                yield f"names {node.value}"

    assert not broken(law, but="package")


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "common", "base", "helpers", "manager"}
    assert not [name for name in modules() if name.split(".")[-1] in drawers]


@pytest.mark.parametrize(
    ("arguments", "beside"),
    [(["--help"], {"pydantic"}), (["cache", "ls"], set[str]()), (["model", "ls", "--json"], set[str]())],
)
def test_light_commands_load_nothing_heavy(arguments: list[str], beside: set[str]) -> None:
    code = (
        "import sys; from edgeship.cli import main\n"
        f"code = main({arguments!r})\n"
        f"loaded = sorted(set(sys.modules) & {set(HEAVY) | {'numpy', 'tokenizers', 'jinja2'} | beside!r})\n"
        "print(loaded, file=sys.stderr); sys.exit(code or bool(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
