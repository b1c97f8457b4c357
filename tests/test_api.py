"""The public API as its page shows it: every block of docs/python.md runs, and `import edgeship` stays light."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import edgeship
from edgeship import settings as settings_module
from edgeship.errors import CheckpointNotFound, UsageError
from edgeship.store import packages
from tests import checkpoints

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "python.md"
CHECKPOINT = ROOT / "examples" / "triage" / "checkpoint"


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(example: Path, tmp_path: Path) -> None:
    packages.install(example, settings_module.resolve().cache_dir, name="support-int4")
    shutil.copytree(CHECKPOINT, tmp_path / "my-model")
    shutil.copyfile(ROOT / "examples" / "triage" / "eval.jsonl", tmp_path / "eval.jsonl")
    code = "\n".join(blocks(PAGE))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '{"intent":' in done.stdout
    assert "refund S-94462" in done.stdout
    assert "installed support-int4:" in done.stdout
    assert "package-not-found" in done.stdout


@pytest.mark.slow
def test_the_readmes_blocks_run(example: Path, tmp_path: Path) -> None:
    packages.install(example, settings_module.resolve().cache_dir, name="triage-int4")
    found = blocks(ROOT / "README.md")
    assert found
    with served("triage-int4") as url:
        code = "\n".join(found).replace("http://127.0.0.1:8080", url)
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def served(name: str) -> Iterator[str]:
    """The URL of `edgeship serve` for a package."""
    words = [sys.executable, "-m", "edgeship", "serve", name, "--port", "0", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            lines = iter(process.stdout.readline, "}\n")
            yield str(json.loads("".join([*lines, "}"]))["url"])
        finally:
            process.terminate()


def test_every_name_is_there() -> None:
    assert all(getattr(edgeship, name) is not None for name in edgeship.__all__)
    assert set(edgeship.__all__) <= set(dir(edgeship))


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'warp'"):
        edgeship.warp  # noqa: B018


def test_importing_edgeship_loads_nothing_of_others() -> None:
    code = "import sys; before = set(sys.modules); import edgeship; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {"edgeship", *sys.stdlib_module_names}
    assert {name for name in ast.literal_eval(done.stdout) if name.split(".")[0] not in ours} == set()


def test_a_module_of_the_same_name_does_not_hide_a_function() -> None:
    code = "import edgeship, edgeship.cli.ship, edgeship.shipping; assert callable(edgeship.ship), edgeship.ship"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("given", [None, 5, ["a"]])
def test_what_names_nothing_is_refused_by_name(given: Any) -> None:
    calls: list[tuple[Any, str, dict[str, Any]]] = [
        (edgeship.load, "target", {}),
        (edgeship.ship, "checkpoint", {}),
        (edgeship.build, "checkpoint", {"output": "x"}),
    ]
    for call, name, others in calls:
        with pytest.raises(UsageError, match=f"{name} is ") as caught:
            call(given, **others)
        assert caught.value.hint


@pytest.mark.parametrize("given", [5, "", " ", ["a"], "a\0b", Path("a\0b"), "~nobody-here/x"])
def test_what_is_no_path_is_refused_by_name(given: Any, tiny: Path) -> None:
    calls: list[tuple[Any, str]] = [
        (edgeship.load, "cache_dir"),
        *((edgeship.ship, name) for name in ("cache_dir", "eval", "report", "adapter")),
        (edgeship.build, "output"),
    ]
    for call, name in calls:
        with pytest.raises(UsageError, match=f"{name} is ") as caught:
            call(tiny, **{name: given})
        assert caught.value.hint


@pytest.mark.skipif(os.name != "posix", reason="names of files are any 16 bits on Windows")
def test_a_path_that_the_file_system_cannot_say_is_refused_by_name(tiny: Path) -> None:
    for name in ("cache_dir", "eval", "report", "adapter"):
        with pytest.raises(UsageError, match=f"{name} is .*no file can be called that"):
            edgeship.ship(tiny, **{name: "\ud800"})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="output is"):
        edgeship.build(tiny, output="\ud800")


def test_a_checkpoint_in_the_home_of_nobody_is_not_there() -> None:
    with pytest.raises(CheckpointNotFound, match="there is no such user"):
        edgeship.open_checkpoint("~nobody-here/x")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"name": 5}, "name is 5; it must be a text"),
        ({"recipes": 5}, "recipe is 5; it must be a Recipe"),
        ({"recipes": ["int4", None]}, "recipe is None"),
        ({"thresholds": "strict"}, "thresholds is 'strict'"),
        ({"undecided": "guess"}, "undecided is 'guess'; it must be 'take' or 'refuse'"),
        ({"reference": "torch"}, "reference is 'torch'; it must be one of auto, transformers, fp32"),
        ({"reference": ["fp32"]}, "reference is \\['fp32'\\]"),
    ],
)
def test_what_no_ship_can_have_is_refused_before_anything_is_built(
    settings: dict[str, Any], named: str, tiny: Path
) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        edgeship.ship(tiny, **settings)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["api_key", "model", "limits"])
def test_what_no_server_can_be_asked_with_is_refused_before_it_is_asked(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 5"):
        edgeship.load("http://127.0.0.1:9/v1", **{name: 5})  # type: ignore[arg-type]


def test_a_schema_holds_the_answers_to_an_eval(tiny: Path) -> None:
    with pytest.raises(UsageError, match="--schema is schema=, --eval is eval="):
        edgeship.ship(tiny, schema={"type": "object"})
    with pytest.raises(UsageError, match="which describes no answer"):
        edgeship.ship(tiny, eval="cases.jsonl", schema=print)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "all"])
def test_an_eval_has_at_least_one_case(limit: Any, tiny: Path) -> None:
    with pytest.raises(UsageError, match=r"eval_limit is .* at least 1"):
        edgeship.ship(tiny, eval="cases.jsonl", eval_limit=limit)


def test_a_build_says_what_is_to_be_known_before_it_begins(tiny: Path, tmp_path: Path) -> None:
    adapter = checkpoints.make_adapter(tmp_path / "adapter", bias="all")
    said: list[str] = []

    class Begun(Exception):
        pass

    def hear(what: str, _: float | None) -> None:
        if not what.startswith("note: "):
            raise Begun
        said.append(what)

    with pytest.raises(Begun):
        edgeship.build(tiny, output=tmp_path / "out", adapter=adapter, progress=hear)
    assert "note: bias in adapter_config.json asks for" in said[0]
