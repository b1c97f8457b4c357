"""Where a checkpoint and its adapter lie."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.checkpoint import open_checkpoint
from edgeship.checkpoint.places import find_adapter, find_checkpoint, package_name
from edgeship.errors import CheckpointInvalid, CheckpointNotFound
from edgeship.package import names
from tests import checkpoints
from tests.hub_stand_in import NEW, Hub, serve

STEPS = ("checkpoint-500", "checkpoint-1500", "checkpoint-1000")


def run_of(folder: Path, made: Path) -> Path:
    """A training run that left three checkpoints and nothing else of use."""
    for step in STEPS:
        shutil.copytree(made, folder / step)
    (folder / "runs").mkdir()
    (folder / "checkpoint-last").mkdir()
    return folder


def test_of_a_run_the_latest_checkpoint_is_used(tiny: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path / "my-run", tiny)
    place = find_checkpoint(str(run))
    assert (place.folder, place.name) == (run / "checkpoint-1500", "my-run")
    opened = open_checkpoint(str(run))
    assert opened.notes == (f"of the checkpoints in {run} the latest is used: checkpoint-1500",)
    assert opened.name == "my-run"


def test_what_a_run_saved_at_its_end_goes_before_its_checkpoints(tiny: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", tiny)
    shutil.copytree(tiny, run, dirs_exist_ok=True)
    assert find_checkpoint(str(run)).folder == run


def test_of_an_adapters_run_too(tiny: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path / "lora", tiny_adapter)
    opened = open_checkpoint(str(tiny), adapter=run)
    assert opened.adapter
    assert opened.adapter.folder == run / "checkpoint-1500"
    assert opened.name == "tiny-lora"
    assert "checkpoint-1500" in opened.notes[0]


def test_an_adapter_that_is_nowhere() -> None:
    assert find_adapter(Path("./nowhere")).folder == Path("nowhere")
    with pytest.raises(CheckpointNotFound, match="there is no adapter folder 'org/none' here, and"):
        find_adapter(Path("org/none"))


CHILD = "import sys; from pathlib import Path; from edgeship.checkpoint import open_checkpoint as o; "
CHILD += "print(o(sys.argv[1], adapter=Path('org/lora')).name)"


@pytest.mark.slow
def test_an_adapter_is_fetched_from_the_hub(tiny: Path, tiny_adapter: Path) -> None:
    with serve(Hub(repo="org/lora", commits={NEW: tiny_adapter}, refs={"main": NEW})) as hub:
        env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(tiny)], env=env, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.stdout == "tiny-lora\n", done.stderr


@pytest.mark.parametrize(
    ("base", "plain"),
    [
        ("unsloth/Qwen2.5-0.5B-Instruct-bnb-4bit", "unsloth/Qwen2.5-0.5B-Instruct"),
        ("unsloth/Qwen2.5-0.5B-Instruct-unsloth-bnb-4bit", "unsloth/Qwen2.5-0.5B-Instruct"),
        ("mlx-community/Llama-3.2-1B-Instruct-4bit", "mlx-community/Llama-3.2-1B-Instruct"),
        ("Qwen/Qwen2.5-0.5B-Instruct-GPTQ-Int4", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("Qwen/Qwen2.5-0.5B-Instruct-AWQ", "Qwen/Qwen2.5-0.5B-Instruct"),
    ],
)
def test_an_adapter_by_itself_is_told_which_base_to_give(base: str, plain: str, tmp_path: Path) -> None:
    for stated, told in ((base, f"presumably {plain}"), (plain, f"ship {plain} --adapter {tmp_path / 'lora'}`")):
        adapter = checkpoints.make_adapter(tmp_path / "lora", base_model_name_or_path=stated)
        with pytest.raises(CheckpointInvalid) as caught:
            open_checkpoint(str(adapter))
        assert told in (caught.value.hint or "")


@given(st.text())
def test_every_source_gives_a_valid_name(text: str) -> None:
    assert names.check_name(package_name(text))


@pytest.mark.parametrize(
    ("text", "name"), [("My model (2)", "My-model-2"), ("..hidden..", "hidden"), ("con", "model-con"), ("é", "model")]
)
def test_names_stay_recognizable(text: str, name: str) -> None:
    assert package_name(text) == name
