"""Olive's road: what it is asked for, an environment that is made once or not at all, and the real thing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import builder
from edgeship.builder import olive, olive_env, onnx_model
from edgeship.builder.olive_worker import PEAK
from edgeship.builder.planning import Job
from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.checkpoint.quantized import Quantized
from edgeship.errors import (
    AdapterInvalid,
    ArchitectureUnknown,
    BuilderFailed,
    CheckpointInvalid,
    DiskShort,
    EdgeshipError,
    MemoryShort,
    PrecisionUnsupported,
    RecipeInvalid,
    ToolFailed,
)
from edgeship.progress import silent
from edgeship.recipe import Recipe
from edgeship.recipe import olive as olive_config
from edgeship.settings import Settings
from edgeship.system import child
from tests import checkpoints
from tests.builder.test_build import TOKENS, Array, logits
from tests.waiting import until

BUILDER = olive.OliveBuilder()


def recipe(precision: str, **fields: Any) -> Recipe:
    return Recipe.model_validate({"precision": precision, "builder": "olive", **fields})


@pytest.fixture
def checkpoint(tiny: Path) -> Checkpoint:
    return open_checkpoint(str(tiny))


# --- what Olive is asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error", "named"),
    [
        ({"precision": "int8"}, PrecisionUnsupported, "int8"),
        ({"precision": "int4", "method": "search"}, RecipeInvalid, "method search"),
        ({"precision": "int4", "bits": 5.0}, RecipeInvalid, "bits"),
        ({"precision": "int4", "method": "k_quant", "block_size": 32}, PrecisionUnsupported, "rows of 96"),
    ],
)
def test_what_olive_cannot_do_is_refused_by_name(
    checkpoint: Checkpoint, fields: dict[str, Any], error: type[EdgeshipError], named: str
) -> None:
    with pytest.raises(error, match=named) as caught:
        BUILDER.predict(checkpoint, recipe(**fields))
    assert caught.value.hint


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int4"])
def test_what_olive_can_do_passes(checkpoint: Checkpoint, precision: str) -> None:
    BUILDER.predict(checkpoint, recipe(precision, symmetric=False, block_size=16, method="rtn"))


@pytest.mark.parametrize("name", ["MambaForCausalLM", "NemotronForCausalLM", "OlmoForCausalLM", "PhiForCausalLM"])
def test_architectures_that_come_out_wrong_are_refused(checkpoint: Checkpoint, name: str) -> None:
    with pytest.raises(ArchitectureUnknown, match=name):
        BUILDER.predict(dataclasses.replace(checkpoint, architecture=name), recipe("int4"))


def test_weights_that_are_quantized_already_are_refused(checkpoint: Checkpoint) -> None:
    quantized = dataclasses.replace(checkpoint, quantized=Quantized("GPTQ with 4 bits", "its tensors show"))
    with pytest.raises(CheckpointInvalid, match="Olive would not find the weights, which are quantized"):
        BUILDER.predict(quantized, recipe("int4"))


def test_an_adapter_of_another_base_is_refused(tiny: Path, tiny_adapter: Path) -> None:
    fitted = open_checkpoint(str(tiny), adapter=tiny_adapter)
    assert fitted.adapter is not None
    tensors = {name: (*shape[:-1], shape[-1] + 1) for name, shape in fitted.adapter.tensors.items()}
    other = dataclasses.replace(fitted, adapter=dataclasses.replace(fitted.adapter, tensors=tensors))
    BUILDER.predict(fitted, recipe("int4"))
    with pytest.raises(AdapterInvalid):
        BUILDER.predict(other, recipe("int4"))


def test_fp16_is_made_of_olives_fp32(checkpoint: Checkpoint) -> None:
    first, second = BUILDER.tasks(checkpoint, recipe("fp16"))
    (alone,) = BUILDER.tasks(checkpoint, recipe("fp32"))
    assert (first.name, second.name) == ("convert", "halve")
    assert first.options == alone.options


def test_the_key_of_a_build_holds_what_decides_it_and_no_paths(tiny: Path, tiny_adapter: Path) -> None:
    plain, merged = open_checkpoint(str(tiny)), open_checkpoint(str(tiny), adapter=tiny_adapter)
    asked = [
        BUILDER.tasks(plain, recipe("int4"))[0],
        BUILDER.tasks(plain, recipe("int4", block_size=32))[0],
        BUILDER.tasks(merged, recipe("int4"))[0],
        BUILDER.tasks(plain, recipe("fp32"))[0],
    ]
    texts = {json.dumps(dict(task.options)) for task in asked}
    assert len(texts) == len(asked)
    assert not any(str(folder) in text for text in texts for folder in (tiny, tiny_adapter))
    assert asked[0].tools["olive-ai"] == "0.13.0"


@pytest.mark.parametrize(("precision", "measured_bytes"), [("fp32", 3.41e9), ("int4", 6.16e9)])
def test_the_memory_foretold_is_what_half_a_billion_parameters_took(
    checkpoint: Checkpoint, precision: str, measured_bytes: float
) -> None:
    large = dataclasses.replace(checkpoint, parameters=494_032_768)
    foretold = BUILDER.predict(large, recipe(precision)).build_peak_memory_bytes
    assert 0 <= foretold / measured_bytes - 1 < 0.1


# --- its environment -------------------------------------------------------------------------------------------------


def test_every_version_is_pinned_and_nothing_else_is_said() -> None:
    lines = [line for line in olive_env.CONSTRAINTS.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    assert all(line.count("==") == 1 and not set(line) & set("+:/@ ") for line in lines), lines
    assert set(olive_env.pinned()) == set(olive_env.PACKAGES)


def test_other_versions_make_another_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = olive_env.folder_name()
    changed = tmp_path / "constraints.txt"
    changed.write_text(olive_env.CONSTRAINTS.read_text(encoding="utf-8").replace("==0.13.0", "==0.14.0"))
    monkeypatch.setattr(olive_env, "CONSTRAINTS", changed)
    assert olive_env.folder_name() != before


Run = Callable[..., None]


def stand_in(monkeypatch: pytest.MonkeyPatch, fail: str | None = None, *said: str) -> list[list[str]]:
    """In place of venv and pip: makes the interpreter's file, and fails at the command that holds `fail`."""
    commands: list[list[str]] = []

    def run(python: Path, arguments: list[str], *, heard: Any, **_: Any) -> None:
        commands.append([str(python), *arguments])
        for line in said:
            heard(line)
        if "venv" in arguments:
            olive_env.python_of(Path(arguments[-1])).parent.mkdir(parents=True)
            olive_env.python_of(Path(arguments[-1])).touch()
            time.sleep(0.05)
        if fail and fail in arguments:
            raise child.Died(1, list(said))

    monkeypatch.setattr(olive_env, "run", run)
    return commands


def test_the_environment_is_made_once_and_with_the_users_own_pip_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = stand_in(monkeypatch)
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(olive_env.ensure(tmp_path / "tools", tmp_path / "log")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [olive_env.python_of(tmp_path / "tools" / olive_env.folder_name())] * 3
    assert made[0].exists()
    assert [command[1:3] for command in commands[:2]] == [["-m", "venv"], ["-m", "pip"]]
    assert len(commands) == 3
    assert "import" in commands[2][-1]
    assert not [word for command in commands for word in command if "index" in word or "://" in word]


@pytest.mark.parametrize("fail", ["venv", "pip", "-c"])
def test_a_failure_leaves_nothing_and_quotes_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fail: str) -> None:
    stand_in(monkeypatch, fail, "Collecting torch", "ERROR: No matching distribution found for torch==2.13.0")
    tools, log = tmp_path / "tools", tmp_path / "log"
    with pytest.raises(ToolFailed, match="No matching distribution") as caught:
        olive_env.ensure(tools, log)
    assert caught.value.where == str(log)
    assert "Collecting torch" in log.read_text(encoding="utf-8")
    assert [path.name for path in tools.iterdir()] == ["locks"]


def test_what_a_killed_run_left_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in(monkeypatch)
    left = tmp_path / f".tmp-{olive_env.folder_name()}"
    left.mkdir()
    (tmp_path / olive_env.folder_name()).mkdir()  # its interpreter is gone
    assert olive_env.ensure(tmp_path, tmp_path / "log").exists()
    assert not left.exists()


@pytest.mark.parametrize("full", ["before", "meanwhile"])
def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, full: str) -> None:
    stand_in(monkeypatch, "pip", "ERROR: [Errno 28] No space left on device")
    if full == "before":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(DiskShort) as caught:
        olive_env.ensure(tmp_path / "tools", tmp_path / "log")
    assert "EDGESHIP_HOME" in str(caught.value.hint)


def test_lines_are_heard_as_they_come_and_a_death_is_told() -> None:
    heard: list[str] = []
    code = r"import sys; print('one'); print('10%\r20%', file=sys.stderr); print('ä'); sys.exit(3)"
    with pytest.raises(child.Died) as caught:
        olive_env.run(Path(sys.executable), ["-c", code], heard=heard.append)
    assert heard == ["one", "10%", "20%", "ä"]
    assert (caught.value.status, caught.value.lines) == (3, tuple(heard))


def test_the_environment_sees_none_of_our_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stray.py").write_text("print('stray')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(child.Died, match="No module named 'stray'"):
        olive_env.run(Path(sys.executable), ["-c", "import stray"], heard=print, folder=tmp_path)


# --- one conversion --------------------------------------------------------------------------------------------------


def job(tmp_path: Path, tell: Any = silent) -> Job:
    folder = tmp_path / "out"
    folder.mkdir()
    return Job(folder, tmp_path / "tiny", tmp_path / "build.log", tell)


def olive_ends(monkeypatch: pytest.MonkeyPatch, status: int, *said: str, leaves: tuple[str, ...] = ()) -> None:
    """In place of Olive: what it prints, how it ends, and the files it leaves in its output folder."""

    def run(python: Path, arguments: list[str], *, heard: Any, environment: dict[str, str], folder: Path) -> None:
        assert python == Path("python")
        assert environment["OLIVE_DISABLE_TELEMETRY"] == environment["CI"] == "1"
        worker, workflow, output = map(Path, arguments)
        assert worker.is_file()
        asked = json.loads(workflow.read_text(encoding="utf-8"))
        assert asked["output_dir"] == str(output)
        assert Path(asked["cache_dir"]).is_relative_to(workflow.parent)
        assert folder.is_dir()
        for name in leaves:
            output.mkdir(exist_ok=True)
            (output / name).write_text("x")
        for line in said:
            heard(line)
        if status:
            raise child.Died(status, [line.strip() for line in said])

    monkeypatch.setattr(olive_env, "run", run)


NO_MODEL = "[2026-01-01 10:00:00,000] [WARNING] [engine.py:237:run] No output model produced."


@pytest.mark.parametrize(
    ("status", "said", "quoted"),
    [
        (
            1,
            ("Traceback", "ValueError: bad", "Saving: 50%|##| 1/2 [00:01, 3.0it/s]"),
            "status 1; the last it said: ValueError: bad",
        ),
        (-9, ("loading",), "for want of memory; the last it said: loading"),
        (0, ("KeyError: 'int8'", NO_MODEL), "model.onnx is missing or empty; it said: KeyError: 'int8'"),
        (0, ("Running", NO_MODEL), "No output model produced"),
        (0, (), "nothing of a fault"),
    ],
    ids=["traceback", "killed", "fault without a status", "no model", "silent"],
)
def test_a_failing_olive_is_quoted_and_its_log_kept(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    checkpoint: Checkpoint,
    status: int,
    said: tuple[str, ...],
    quoted: str,
) -> None:
    olive_ends(monkeypatch, status, *said)
    with pytest.raises(MemoryShort if status < 0 else BuilderFailed) as caught:
        olive.convert(job(tmp_path), Path("python"), checkpoint, recipe("int4"))
    assert quoted in caught.value.what
    assert caught.value.where == str(tmp_path / "build.log")
    assert (tmp_path / "build.log").read_text(encoding="utf-8").splitlines() == list(said)


def test_only_the_model_is_kept_and_its_peak_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkpoint: Checkpoint
) -> None:
    told: list[tuple[str, float | None]] = []
    monkeypatch.setattr(onnx_model, "find_fault", lambda _: None)
    said = ("Reading layer 0", "Reading layer 1", "Saving ONNX model in x", f"{PEAK} 123")
    olive_ends(monkeypatch, 0, *said, leaves=("model.onnx", "tokenizer.json", "footprint.json", "model_config.json"))
    work = job(tmp_path, lambda message, part: told.append((message, part)))
    assert olive.convert(work, Path("python"), checkpoint, recipe("fp32")) == 123
    assert sorted(path.name for path in work.folder.iterdir()) == ["model.onnx", "tokenizer.json"]
    assert [part for _, part in told] == [0.45, 0.7, 0.7]


FAKES = {
    "transformers.py": """
        class AutoModelForCausalLM:
            @staticmethod
            def from_pretrained(name, dtype="bfloat16"):
                print(name, dtype, flush=True)
    """,
    "olive/__init__.py": "",
    "olive/__main__.py": """
        import os, sys, time
        import transformers
        transformers.AutoModelForCausalLM.from_pretrained("tiny")
        print(*sys.argv[1:], flush=True)
        if "wait" in sys.argv:
            print(os.getpid(), flush=True)
            time.sleep(60)
    """,
}


@pytest.fixture
def worker(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """The worker's command and environment, with stand-ins for Olive and transformers."""
    for name, text in FAKES.items():
        path = tmp_path / "fakes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "fakes"), "PYTHONSAFEPATH": "1"}
    return [sys.executable, str(olive.WORKER)], environment


def test_the_worker_loads_fp32_and_tells_its_peak(worker: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    command, environment = worker
    with subprocess.Popen(
        [*command, "flow.json", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout
        lines = process.stdout.read().splitlines()
    assert lines[:2] == ["tiny float32", "run --config flow.json"]
    assert 1e6 < int(lines[2].removeprefix(PEAK)) < 1e9


@pytest.mark.skipif(sys.platform != "linux", reason="looks for a process in /proc")
def test_olive_ends_when_we_are_killed(worker: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    command, environment = worker
    parent = (
        f"import subprocess, sys; p = subprocess.Popen({[*command, 'wait', str(tmp_path)]!r}, stdin=subprocess.PIPE); "
        "p.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, env=environment, text=True) as ours:
        assert ours.stdout
        pid = next(int(line) for line in ours.stdout if line.strip().isdigit())
        ours.kill()
        until(lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# --- the real Olive --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Olive's environment, made once a session; EDGESHIP_TEST_TOOLS names one to keep."""
    kept = os.environ.get("EDGESHIP_TEST_TOOLS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("tools")
    try:
        olive_env.ensure(folder, folder / "log")
    except ToolFailed as failure:
        # Its packages are fetched here and now; what is under test is not whether an index can be reached.
        pytest.skip(f"Olive's environment cannot be made here: {failure.what}")
    return folder


@pytest.fixture
def olive_settings(tools: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (settings.home / "tools").symlink_to(tools, target_is_directory=True)
    monkeypatch.setitem(builder.BUILDERS, "olive", BUILDER)
    return settings


def original_logits(folder: Path, adapter: Path | None = None) -> Array:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.no_grad():
        result: Array = model(torch.from_numpy(TOKENS)).logits[0, -1].numpy()
    return result


@pytest.mark.slow
def test_int4_is_built_as_asked_and_runs(tiny: Path, olive_settings: Settings) -> None:
    import onnx_ir
    import onnxruntime_genai

    checkpoint, asked = open_checkpoint(str(tiny)), recipe("int4", block_size=32, symmetric=False, accuracy_level=1)
    built = builder.build(checkpoint, asked, olive_settings)
    nodes = [node for node in onnx_ir.load(built.folder / "model.onnx").graph if node.op_type == "MatMulNBits"]
    assert len(nodes) == 1 + 5 * checkpoints.LAYERS
    assert {node.attributes["block_size"].as_int() for node in nodes} == {32}
    assert {node.attributes["accuracy_level"].as_int() for node in nodes} == {1}
    assert all(len(node.inputs) > 3 and node.inputs[3] is not None for node in nodes), "zero points"
    assert abs(built.size_bytes / BUILDER.predict(checkpoint, asked).size_bytes - 1) < 0.02
    assert 2e8 < built.peak_memory_bytes < 2e9
    assert built.tools["onnxruntime-genai"] == "0.14.1"
    expected = original_logits(tiny)
    assert 0 < np.abs(logits(built.folder) - expected).max() < 0.2 * np.ptp(expected)
    onnxruntime_genai.Model(str(built.folder))
    assert not [path for path in built.folder.rglob("*") if path.suffix == ".json" and str(tiny) in path.read_text()]


@pytest.mark.slow
def test_an_adapter_is_merged_in_fp32_whatever_the_base_declares(
    tiny: Path, tiny_adapter: Path, olive_settings: Settings
) -> None:
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(dtype="bfloat16"))
    built = builder.build(open_checkpoint(str(tiny), adapter=tiny_adapter), recipe("fp32"), olive_settings)
    expected = original_logits(tiny, tiny_adapter)
    assert np.abs(logits(built.folder) - expected).max() < 1e-5 * np.ptp(expected)
    assert np.abs(original_logits(tiny) - expected).max() > 0.1 * np.ptp(expected)


@pytest.mark.slow
def test_fp16_is_of_fp32_with_the_rotary_base_of_todays_config_files(tiny: Path, olive_settings: Settings) -> None:
    config = checkpoints.qwen2_config(rope_parameters={"rope_type": "default", "rope_theta": 1e6}, dtype="bfloat16")
    del config["rope_theta"]
    checkpoints.write_json(tiny / "config.json", config)
    checkpoint, asked = open_checkpoint(str(tiny)), recipe("fp16")
    built = builder.build(checkpoint, asked, olive_settings)
    full = builder.plan(checkpoint, asked, olive_settings).steps[0].folder
    expected = original_logits(tiny)
    assert np.abs(logits(full) - expected).max() < 1e-5 * np.ptp(expected), "weights stay wider than config.json says"
    assert np.abs(logits(built.folder) - expected).max() < 1e-2 * np.ptp(expected)
    assert (built.folder / "model.onnx.data").stat().st_size < 0.65 * (full / "model.onnx.data").stat().st_size


@pytest.mark.slow
def test_olive_that_leaves_no_model_and_exits_0_is_a_failure(
    tiny: Path, olive_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(olive_config, "require_expressible", lambda _: None)
    with pytest.raises(BuilderFailed, match=r"claimed success.*KeyError.*int8") as caught:
        builder.build(open_checkpoint(str(tiny)), recipe("int8"), olive_settings)
    assert "No output model produced" in Path(str(caught.value.where)).read_text(encoding="utf-8")
    assert not [path for path in olive_settings.builds_dir.iterdir() if path.name not in ("locks", "logs")]


@pytest.mark.slow
def test_olive_runs_a_rendered_workflow_as_it_is(tiny: Path, tiny_adapter: Path, tools: Path, tmp_path: Path) -> None:
    workflow, output = tmp_path / "workflow.json", tmp_path / "output"
    asked = recipe("int4", block_size=16, method="k_quant")
    workflow.write_text(olive_config.render(asked, tiny, tiny_adapter, output), encoding="utf-8")
    lines: list[str] = []
    python = olive_env.ensure(tools, tmp_path / "log")
    olive_env.run(
        python,
        ["-m", "olive", "run", "--config", str(workflow)],
        heard=lines.append,
        environment={"CI": "1", "OLIVE_DISABLE_TELEMETRY": "1"},
        folder=tmp_path,
    )
    assert onnx_model.find_fault(output) is None, lines
    expected = original_logits(tiny, tiny_adapter)
    assert np.abs(logits(output) - expected).max() < 0.2 * np.ptp(expected)
