"""The adapter around onnxruntime-genai's builder: options, refusals, and a child process that misbehaves."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from edgeship import builder
from edgeship.builder import genai, genai_options
from edgeship.builder.planning import Job
from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.checkpoint.families import BY_GENAI
from edgeship.errors import ArchitectureUnknown, BuilderFailed, CheckpointInvalid, MemoryShort, PrecisionUnsupported
from edgeship.progress import silent
from edgeship.recipe import Recipe, named_recipe
from edgeship.settings import Settings
from edgeship.system import child
from tests import checkpoints


def options(checkpoint: Checkpoint, **fields: Any) -> dict[str, str]:
    made = genai_options.builder_options(checkpoint, Recipe.model_validate(fields))
    return dict(option.split("=", 1) for option in made)


@pytest.fixture
def checkpoint(tiny: Path) -> Checkpoint:
    return open_checkpoint(str(tiny))


def test_fp32_is_asked_for_the_last_logits_only_and_stays_offline(checkpoint: Checkpoint) -> None:
    expected = {"hf_token": "false", "hf_remote": "false", "prune_lm_head": "true"}
    assert options(checkpoint, precision="fp32") == expected
    assert options(checkpoint, precision="fp16", block_size=64) == expected


def test_every_field_of_the_recipe_reaches_the_builder(checkpoint: Checkpoint) -> None:
    asked = options(checkpoint, precision="int8", block_size=64, symmetric=False, accuracy_level=1, method="k_quant")
    assert asked["block_size"] == "64"
    assert asked["is_symmetric"] == "false"
    assert asked["accuracy_level"] == "1"
    assert asked["algo_config"] == "k_quant"


@pytest.mark.parametrize(
    ("fields", "algorithm", "shared"),
    [
        ({}, "default", "true"),
        ({"symmetric": False, "block_size": 16}, "rtn", "true"),  # 4 and 6 blocks a row
        ({"symmetric": False, "block_size": 32}, "default", "false"),  # 2 and 3: zero points do not pair up
        ({"method": "k_quant", "block_size": 16}, "k_quant", "true"),
    ],
)
def test_int4_goes_around_what_the_builder_cannot_do(
    checkpoint: Checkpoint, fields: dict[str, Any], algorithm: str, shared: str
) -> None:
    asked = options(checkpoint, precision="int4", **fields)
    assert (asked["algo_config"], asked["shared_embeddings"]) == (algorithm, shared)
    untied = dataclasses.replace(checkpoint, tied_embeddings=False)
    assert "shared_embeddings" not in options(untied, precision="int4", **fields)


def test_k_quant_with_odd_blocks_is_refused_with_sizes_that_work(checkpoint: Checkpoint, settings: Settings) -> None:
    recipe = Recipe.model_validate({"precision": "int4", "method": "k_quant", "builder": "genai"})
    with pytest.raises(PrecisionUnsupported, match=r"\.weight has rows of (64|96), which make an odd") as caught:
        builder.plan(checkpoint, recipe, settings)
    assert "16" in str(caught.value.hint)


def test_a_budget_of_bits_is_refused_and_that_of_a_recipe_left_out_with_a_note(
    checkpoint: Checkpoint, settings: Settings
) -> None:
    asked = Recipe.model_validate({"precision": "int4", "bits": 5.0, "builder": "genai"})
    with pytest.raises(PrecisionUnsupported, match="all matrices 4 bits"):
        builder.plan(checkpoint, asked, settings)
    planned = builder.plan(checkpoint, named_recipe("int4", {"builder": "genai"}, where="test"), settings)
    assert not planned.recipe.budgeted
    assert any("all matrices get 4 bits alike" in note for note in planned.notes)


def test_an_unknown_architecture_is_refused_before_any_work(tiny: Path, settings: Settings) -> None:
    config = checkpoints.qwen2_config(architectures=["MambaForCausalLM"])
    checkpoints.write_json(tiny / "config.json", config)
    with pytest.raises(ArchitectureUnknown, match="MambaForCausalLM") as caught:
        builder.build(open_checkpoint(str(tiny)), Recipe.model_validate({"precision": "int4"}), settings)
    assert "Qwen2ForCausalLM" in str(caught.value.hint)
    assert not settings.builds_dir.exists()


def test_weights_that_are_quantized_already_are_refused(tiny: Path, settings: Settings) -> None:
    config = checkpoints.qwen2_config(quantization_config={"quant_method": "gptq"})
    checkpoints.write_json(tiny / "config.json", config)
    with pytest.raises(CheckpointInvalid, match="gptq"):
        builder.plan(open_checkpoint(str(tiny)), Recipe.model_validate({"precision": "int4"}), settings)


def test_every_architecture_is_in_the_builders_source() -> None:
    package = importlib.util.find_spec("onnxruntime_genai")
    assert package is not None
    assert package.origin is not None
    source = (Path(package.origin).parent / "models" / "builder.py").read_text(encoding="utf-8")
    assert [name for name in BY_GENAI if f'"{name}"' not in source] == []


def job(tmp_path: Path, tell: Any = silent) -> Job:
    folder = tmp_path / "out"
    folder.mkdir()
    return Job(folder, tmp_path, tmp_path / "build.log", tell)


def stand_in(monkeypatch: pytest.MonkeyPatch, outcome: child.Died | dict[str, Any], *lines: str) -> None:
    """Puts what a worker prints and how it ends in its place."""

    def run(module: str, request: dict[str, Any], *, heard: Any) -> dict[str, Any]:
        assert module == "edgeship.builder.genai_worker"
        assert request["precision"] == "int4"
        for line in lines:
            heard(line)
        if isinstance(outcome, child.Died):
            raise outcome
        return outcome

    monkeypatch.setattr(child, "run", run)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (child.Died(1, ["Traceback", "ValueError: bad head_dim"]), "ValueError: bad head_dim"),
        (child.Died(2, ["RuntimeError: x", "Saving: 50%|##| 1/2 [00:01, 3.0it/s]"]), "RuntimeError: x"),
        (child.Died(-9, ["loading"]), "for want of memory; the last it said: loading"),
        (child.Died(1, []), "nothing"),
        ({"peak_memory_bytes": 1}, "model.onnx is missing or empty"),
    ],
    ids=["traceback", "progress bar", "killed", "silent", "success without a model"],
)
def test_a_failing_builder_is_quoted_and_its_log_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome: child.Died | dict[str, Any], said: str
) -> None:
    stand_in(monkeypatch, outcome, "Reading embedding layer")
    with pytest.raises((BuilderFailed, MemoryShort)) as caught:
        genai.convert(job(tmp_path), "int4", [], 2)
    assert said in caught.value.what
    assert caught.value.where == str(tmp_path / "build.log")
    assert (tmp_path / "build.log").read_text(encoding="utf-8") == "Reading embedding layer\n"


def test_progress_follows_the_layers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[tuple[str, float | None]] = []
    lines = ("Reading layer 0", "Reading layer 1", "Saving ONNX model in x")
    stand_in(monkeypatch, child.Died(1, []), *lines)
    with pytest.raises(BuilderFailed):
        genai.convert(job(tmp_path, lambda message, part: told.append((message, part))), "int4", [], 2)
    assert [message for message, _ in told][:2] == ["convert: layer 1 of 2", "convert: layer 2 of 2"]
    fractions = [part for _, part in told if part is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1


@pytest.mark.slow
def test_what_the_real_builder_raises_is_quoted_and_its_traceback_logged(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Unheard"]}', encoding="utf-8")
    with pytest.raises(BuilderFailed, match=r"onnxruntime-genai's builder failed: \w+: ") as caught:
        genai.convert(job(tmp_path), "fp32", [], 2)
    log = tmp_path / "build.log"
    assert (caught.value.where, caught.value.hint) == (str(log), genai.LOOK_INTO_LOG)
    assert "Traceback (most recent call last):" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [
        ("Qwen3_5ForCausalLM", "onnxruntime-genai's builder cannot be relied on for", "Leave --builder out"),
        ("StrangeForCausalLM", "no builder here knows", "Qwen3_5ForCausalLM"),
    ],
)
def test_an_architecture_that_it_does_not_know_leads_to_who_does(
    checkpoint: Checkpoint, name: str, told: str, hint: str
) -> None:
    other = dataclasses.replace(checkpoint, architecture=name)
    with pytest.raises(ArchitectureUnknown, match=told) as caught:
        genai.GenaiBuilder().predict(other, named_recipe("int4-fast", {}, where="here"))
    assert hint in str(caught.value.hint)
