"""Bad input at the command line: the exit code, a message that names the culprit, and nothing left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeship.cli import main
from tests import checkpoints
from tests.packages import make_package

Damage = Callable[[Path], list[str]]
"""Damages the checkpoint folder; returns further arguments."""


def not_a_checkpoint(folder: Path) -> list[str]:
    for path in folder.iterdir():
        path.unlink()
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    return []


def pickle_only(folder: Path) -> list[str]:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return []


def no_weights(folder: Path) -> list[str]:
    (folder / "model.safetensors").unlink()
    return []


def truncated(folder: Path) -> list[str]:
    os.truncate(folder / "model.safetensors", 5000)
    return []


def flipped_in_the_header(folder: Path) -> list[str]:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[40] ^= 0x80
    (folder / "model.safetensors").write_bytes(content)
    return []


def no_template(folder: Path) -> list[str]:
    (folder / "chat_template.jinja").unlink()
    return []


def broken_template(folder: Path) -> list[str]:
    (folder / "broken.jinja").write_text("{% for %}", encoding="utf-8")
    return ["--chat-template", str(folder / "broken.jinja")]


def unknown_architecture(folder: Path) -> list[str]:
    checkpoints.write_json(
        folder / "config.json", checkpoints.qwen2_config(architectures=["MambaForCausalLM"], model_type="mamba")
    )
    return []


def adapter_of_another_base(folder: Path) -> list[str]:
    from safetensors.numpy import load_file, save_file

    adapter = checkpoints.make_adapter(folder.parent / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    smaller = {name: tensor[:32, :32].copy() for name, tensor in tensors.items()}
    save_file(smaller, adapter / "adapter_model.safetensors")
    return ["--adapter", str(adapter)]


def little_memory(folder: Path) -> list[str]:
    del folder
    return ["--memory", "64MB"]


def no_such_eval(folder: Path) -> list[str]:
    return ["--eval", str(folder / "none.jsonl")]


def faulty_eval(folder: Path) -> list[str]:
    (folder / "eval.jsonl").write_text('{"id": "a"}\n', encoding="utf-8")
    return ["--eval", str(folder / "eval.jsonl")]


def bad_name(folder: Path) -> list[str]:
    del folder
    return ["--name", "../outside"]


CASES: list[tuple[Damage, int, str, str]] = [
    (not_a_checkpoint, 2, "checkpoint-invalid", "config.json"),
    (pickle_only, 2, "pickle-refused", "pytorch_model.bin"),
    (no_weights, 2, "checkpoint-invalid", "model.safetensors"),
    (truncated, 6, "weights-damaged", "model.safetensors"),
    (flipped_in_the_header, 6, "weights-damaged", "model.safetensors"),
    (no_template, 2, "template-missing", "--chat-template"),
    (broken_template, 2, "template-invalid", "line 1"),
    (unknown_architecture, 2, "architecture-unknown", "MambaForCausalLM"),
    (adapter_of_another_base, 2, "adapter-invalid", "down_proj"),
    (little_memory, 7, "memory-short", "64"),
    (no_such_eval, 2, "eval-invalid", "none.jsonl"),
    (faulty_eval, 2, "eval-invalid", "line 1"),
    (bad_name, 2, "name-invalid", "../outside"),
]


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize(
    ("damage", "exit_code", "code", "named"), [pytest.param(*case, id=case[0].__name__) for case in CASES]
)
def test_ship_refuses_and_leaves_nothing(
    damage: Damage,
    exit_code: int,
    code: str,
    named: str,
    tiny: Path,
    own_home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = damage(tiny)
    assert main(["ship", str(tiny), "--json", *arguments]) == exit_code
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code
    assert error["hint"]
    assert named in f"{error['what']} {error['where']} {error['hint']}"
    assert files_under(own_home) == set()


@pytest.mark.parametrize("command", ["inspect", "build", "ship"])
def test_a_folder_that_is_not_there(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, str(tmp_path / "nowhere")]) == 4
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "a b", "a/b", "x:latest", ".hidden", "CON"])
def test_names_that_could_not_be_folders(name: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "rm", name]) == 2
    assert main(["build", str(tiny), "--name", name]) == 2
    assert capsys.readouterr().err.count("error[name-invalid]") == 2
    # Where a package may also be a path, it is one that is not there.
    code, exit_code = ("package-not-found", 4) if "/" in name else ("name-invalid", 2)
    assert main(["model", "run", name, "hello"]) == exit_code
    assert f"error[{code}]" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["model", "run"], ["tune"]])
def test_a_path_where_no_package_lies(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, str(tmp_path)]) == 4
    assert "genai_config.json is missing" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "nowhere")]) == 4
    assert "there is no such folder" in capsys.readouterr().err
    assert main([*command, "a b"]) == 2


def test_an_unknown_package_names_its_neighbours(
    own_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = make_package(tmp_path / "model-int4")
    assert main(["cache", "add", str(package.folder)]) == 0
    name = "model-int4"
    assert main(["model", "info", name + "x"]) == 4
    assert name in capsys.readouterr().err
    assert own_home.exists()


def test_a_damaged_package_is_named_by_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = make_package(tmp_path / "model-int4")
    assert main(["cache", "add", str(package.folder), "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    content = bytearray((folder / "model.onnx.data").read_bytes())
    content[3] ^= 1
    (folder / "model.onnx.data").write_bytes(content)
    assert main(["cache", "verify"]) == 6
    assert "model.onnx.data was altered" in capsys.readouterr().out
    assert main(["cache", "verify", "--json"]) == 6
    assert "model.onnx.data" in json.loads(capsys.readouterr().out)["packages"][0]["faults"][0]


def test_a_cache_below_a_file_is_found_before_the_work(
    tiny: Path, tmp_path: Path, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert main(["ship", str(tiny), "--cache-dir", str(tmp_path / "file" / "cache")]) == 2
    assert "it must be the path of a folder" in capsys.readouterr().err
    assert files_under(own_home) == set()


def test_too_little_disk_is_found_before_the_work(
    tiny: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgeship.preflight.free_disk_bytes", lambda _: 1000)
    assert main(["ship", str(tiny)]) == 7
    assert "error[disk-short]" in capsys.readouterr().err
    assert files_under(own_home) == set()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--device", "gpu"], "gpu"),
        (["--provider", "CUDAExecutionProvider"], "CUDAExecutionProvider"),
        (["--precision", "int4", "--block-size", "33"], "block_size"),
        (["--model_name_or_path", "other"], "--model_name_or_path"),
        (["--config", "none.json"], "none.json"),
    ],
)
def test_build_options_that_cannot_be_honoured(
    arguments: list[str], named: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(tiny), *arguments]) == 2
    assert named in capsys.readouterr().err


def test_build_does_not_replace_a_folder_that_is_no_package(
    tiny: Path, tmp_path: Path, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years", encoding="utf-8")
    assert main(["build", str(tiny), "--output", str(tmp_path / "out")]) == 2
    assert "thesis" in (tmp_path / "out" / "thesis.txt").name
    assert "is no package" in capsys.readouterr().err
    assert files_under(own_home) == set()


def test_plan_prints_steps_and_builds_nothing(tiny: Path, own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for builder, names in (("auto", ["stream"]), ("genai", ["convert", "halve"])):
        assert main(["build", str(tiny), "--precision", "fp16", "--builder", builder, "--plan", "--json"]) == 0
        plan: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert [(step["name"], step["done"]) for step in plan["steps"]] == [(name, False) for name in names]
        assert plan["prediction"]["size_bytes"] > 0
    assert files_under(own_home) == set()


@pytest.mark.parametrize(
    "command",
    [
        *("inspect {}", "build {}", "inspect {tiny} --adapter {}", "inspect {tiny} --chat-template {}"),
        *("build --config {}", "cache add {}", "cache ls --cache-dir {}", "model run {}", "model info {}"),
        *("ship {tiny} --eval {}", "tune {}", "cache cd {}", "olive-config {tiny} --output {}"),
    ],
)
@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + "/b", "x/" * 3000])
def test_a_name_that_no_file_can_have_is_no_fault_of_ours(tiny: Path, command: str, name: str) -> None:
    assert main([part.format(name, tiny=tiny) for part in command.split()]) in (0, 2, 4, 7)
