"""Whole builds of a tiny checkpoint with onnxruntime-genai's builder, opened by ONNX Runtime."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship import builder
from edgeship.builder import onnx_model
from edgeship.checkpoint import open_checkpoint
from edgeship.errors import BuilderFailed, CheckpointInvalid, PrecisionUnsupported, WeightsDamaged
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from tests import checkpoints

Array = np.ndarray[Any, Any]
TOKENS = np.arange(5, 45, dtype=np.int64)[None]


def make(folder: Path, settings: Settings, precision: str, adapter: Path | None = None, **fields: Any) -> builder.Build:
    recipe = Recipe.model_validate({"precision": precision, "builder": "genai", **fields})
    return builder.build(open_checkpoint(str(folder), adapter=adapter), recipe, settings)


def logits(folder: Path) -> Array:
    """float32 [vocab_size] after the last of TOKENS."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    feeds: dict[str, Array] = {"input_ids": TOKENS, "attention_mask": np.ones_like(TOKENS)}
    for value in session.get_inputs():
        if value.name.startswith("past"):
            feeds[value.name] = np.zeros((1, checkpoints.KV_HEADS, 0, checkpoints.HEAD_SIZE), np.float32)
    result: Array = session.run(["logits"], feeds)[0]
    assert result.shape == (1, 1, checkpoints.VOCAB)
    last: Array = result[0, 0]
    return last


def original_logits(folder: Path) -> Array:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        result: Array = (
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(torch.from_numpy(TOKENS))
            .logits[0, -1]
            .numpy()
        )
    return result


@pytest.mark.slow
def test_fp32_and_fp16_are_the_original(tiny: Path, settings: Settings) -> None:
    said: list[str] = []
    full = make(tiny, settings, "fp32")
    recipe = Recipe.model_validate({"precision": "fp16", "builder": "genai"})
    half = builder.build(open_checkpoint(str(tiny)), recipe, settings, lambda message, _: said.append(message))
    assert not [message for message in said if message.startswith("convert")], "FP32's step is shared"
    expected = original_logits(tiny)
    assert np.abs(logits(full.folder) - expected).max() < 1e-4
    assert np.abs(logits(half.folder) - expected).max() < 2e-2
    weights = 4 * 86_592
    saved = full.size_bytes - half.size_bytes
    assert saved / weights > 0.48
    assert half.peak_memory_bytes == full.peak_memory_bytes > 100_000_000
    assert half.wall_s >= full.wall_s > 0
    assert {"onnxruntime-genai", "transformers", "torch", "numpy"} <= set(half.tools)
    for made in (full, half):
        assert json.loads((made.folder / "genai_config.json").read_text())["model"]["type"] == "qwen2"
        assert (made.folder / "tokenizer.json").is_file()
        assert not (made.folder / ".scratch").exists()
    assert make(tiny, settings, "fp16") == half

    rounded = {
        name: value.astype(np.float16).astype(np.float32) if value.ndim == 2 else value
        for name, value in load_file(tiny / "model.safetensors").items()
    }
    save_file(rounded, tiny / "model.safetensors", metadata={"format": "pt"})
    assert np.abs(logits(half.folder) - original_logits(tiny)).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "fields"),
    [
        ("int8", {}),
        ("int8", {"method": "k_quant", "symmetric": False, "block_size": 64}),
        ("int4", {"block_size": 64}),
        ("int4", {"symmetric": False}),
        ("int4", {"symmetric": False, "block_size": 16}),
        ("int4", {"method": "k_quant", "block_size": 16, "accuracy_level": 1}),
    ],
    ids=str,
)
def test_quantized_builds_run_near_the_original_at_the_predicted_size(
    tiny: Path, settings: Settings, precision: str, fields: dict[str, Any]
) -> None:
    made = make(tiny, settings, precision, **fields)
    expected, got = original_logits(tiny), logits(made.folder)
    error = np.abs(got - expected).mean() / expected.std()
    assert error < (0.05 if precision == "int8" else 0.6)
    planned = builder.plan(open_checkpoint(str(tiny)), made.recipe, settings)
    assert made.size_bytes == pytest.approx(planned.prediction.size_bytes, rel=0.1)
    assert planned.steps[-1].done


@pytest.mark.slow
def test_an_adapter_changes_the_model_as_peft_would(tiny: Path, tiny_adapter: Path, settings: Settings) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    made = make(tiny, settings, "fp32", adapter=tiny_adapter)
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), tiny_adapter)
        expected = adapted(torch.from_numpy(TOKENS)).logits[0, -1].numpy()
    assert np.abs(logits(made.folder) - expected).max() < 1e-4
    assert np.abs(original_logits(tiny) - expected).max() > 1e-2


@pytest.mark.slow
def test_weights_wider_than_the_config_says_are_not_rounded(tiny: Path, settings: Settings) -> None:
    expected = original_logits(tiny)
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(dtype="bfloat16"))
    assert np.abs(logits(make(tiny, settings, "fp32").folder) - expected).max() < 1e-4


@pytest.mark.slow
def test_an_untied_model_of_another_family_builds(tiny: Path, settings: Settings) -> None:
    config = checkpoints.qwen2_config(
        architectures=["LlamaForCausalLM"], model_type="llama", tie_word_embeddings=False, attention_bias=False
    )
    checkpoints.write_json(tiny / "config.json", config)
    weights = {name: value for name, value in load_file(tiny / "model.safetensors").items() if "bias" not in name}
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"][::-1].copy()
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    made = make(tiny, settings, "int4", symmetric=False)
    planned = builder.plan(open_checkpoint(str(tiny)), made.recipe, settings)
    assert made.size_bytes == pytest.approx(planned.prediction.size_bytes, rel=0.1)
    expected = original_logits(tiny)
    assert np.abs(logits(made.folder) - expected).mean() / expected.std() < 0.6


@pytest.mark.slow
def test_a_builder_that_fails_leaves_its_log_and_nothing_else(tiny: Path, settings: Settings) -> None:
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(hidden_act="no-such-function"))
    with pytest.raises(BuilderFailed, match="no-such-function") as caught:
        make(tiny, settings, "int4")
    log = Path(str(caught.value.where))
    assert "Traceback" in log.read_text(encoding="utf-8")
    assert {path.name for path in settings.builds_dir.iterdir()} == {"locks", "logs"}


def test_damaged_weights_are_found_before_any_step(tiny: Path, settings: Settings) -> None:
    weights = load_file(tiny / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = np.inf
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsDamaged, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        make(tiny, settings, "int4")
    assert not settings.builds_dir.exists()


@pytest.mark.slow
def test_weights_beyond_fp16_are_refused_by_name(tiny: Path, settings: Settings) -> None:
    weights = load_file(tiny / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = 70_000.0
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PrecisionUnsupported, match=r"layers\.1\.mlp\.up_proj.*70000"):
        make(tiny, settings, "fp16")
    planned = builder.plan(
        open_checkpoint(str(tiny)), Recipe.model_validate({"precision": "fp16", "builder": "genai"}), settings
    )
    assert [step.done for step in planned.steps] == [True, False]
    assert not list(settings.builds_dir.glob(".tmp-*"))


@pytest.mark.slow
def test_a_folder_whose_data_was_cut_is_no_model(tiny: Path, settings: Settings) -> None:
    folder = make(tiny, settings, "fp32").folder
    assert onnx_model.find_fault(folder) is None
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-4])
    assert "model.onnx.data ends before" in str(onnx_model.find_fault(folder))
    (folder / "model.onnx").write_bytes(b"not a model")
    assert "model.onnx" in str(onnx_model.find_fault(folder))
    (folder / "genai_config.json").write_text("{}")
    assert "genai_config.json has no model.context_length" in str(onnx_model.find_fault(folder))


@pytest.mark.slow
def test_a_build_answers_a_token(tiny: Path, settings: Settings) -> None:
    folder = make(tiny, settings, "int4", builder="stream").folder
    onnx_model.require_answers(folder)
    config = json.loads((folder / "genai_config.json").read_bytes())
    config["model"]["vocab_size"] = 400
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(BuilderFailed, match="tells 384 of 400 tokens"):
        onnx_model.require_answers(folder)


@pytest.mark.slow
def test_where_memory_is_short_a_build_is_opened_only(
    tiny: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tiny, settings, "fp32", builder="stream").folder
    data = folder / "model.onnx.data"
    data.write_bytes(b"\xff" * data.stat().st_size)
    monkeypatch.setattr(onnx_model, "RUN_BYTES", 10**15)
    onnx_model.require_answers(folder)


@pytest.mark.slow
def test_a_build_that_answers_with_nan_is_none(tiny: Path, settings: Settings) -> None:
    folder = make(tiny, settings, "fp32", builder="stream").folder
    data = folder / "model.onnx.data"
    data.write_bytes(b"\xff" * data.stat().st_size)
    with pytest.raises(BuilderFailed, match="answers with NaN or infinity"):
        onnx_model.require_answers(folder)


@pytest.mark.slow
def test_a_checkpoint_that_changes_while_it_is_built_and_is_restored_leaves_no_build(
    tiny: Path, settings: Settings
) -> None:
    weights = (tiny / "model.safetensors").read_bytes()
    planned = builder.plan(open_checkpoint(str(tiny)), Recipe(precision=Precision.INT4), settings)
    other = checkpoints.make_checkpoint(tiny.parent / "other", seed=7)
    shutil.copyfile(other / "model.safetensors", tiny / "model.safetensors")

    def restore(_: str, fraction: float | None) -> None:
        if fraction == 1.0:
            (tiny / "model.safetensors").write_bytes(weights)

    with pytest.raises(CheckpointInvalid, match=r"was changed while it was read: model\.safetensors"):
        builder.carry_out(planned, settings, restore)
    assert not planned.steps[-1].folder.exists()


@pytest.mark.slow
def test_after_kill_9_of_a_real_build_the_same_command_works(tiny: Path, settings: Settings) -> None:
    code = (
        "import sys; from edgeship import builder, settings; from edgeship.checkpoint import open_checkpoint\n"
        "from edgeship.recipe import Precision, Recipe; say = lambda message, _: print(message, flush=True)\n"
        "made = builder.build(open_checkpoint(sys.argv[1]), Recipe(precision='int4', builder='genai'), "
        "settings.resolve(), say)"
    )
    command = [sys.executable, "-c", code, str(tiny)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert any("convert" in line for line in child.stdout)
        time.sleep(0.5)
        child.kill()
    assert (
        not builder.plan(
            open_checkpoint(str(tiny)), Recipe.model_validate({"precision": "int4", "builder": "genai"}), settings
        )
        .steps[0]
        .done
    )
    made = make(tiny, settings, "int4")
    assert made.size_bytes > 50_000
    assert not list(settings.builds_dir.glob(".tmp-*"))
