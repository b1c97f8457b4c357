"""The streaming builder: whole builds of a tiny checkpoint without PyTorch, and what disturbs them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship import builder as build
from edgeship.builder import data_file, onnx_model, stream, stream_worker
from edgeship.builder.layout import Matrix
from edgeship.builder.quantize import Scheme
from edgeship.builder.stream import design
from edgeship.checkpoint import open_checkpoint
from edgeship.errors import (
    ArchitectureUnknown,
    CalibrationInvalid,
    CheckpointInvalid,
    DiskShort,
    MemoryShort,
    PrecisionUnsupported,
    WeightsDamaged,
)
from edgeship.progress import silent
from edgeship.recipe import Precision, Recipe, named_recipe
from edgeship.settings import Settings
from tests import checkpoints
from tests.waiting import until

TOKENS = tuple(range(5, 45))


def make(folder: Path, settings: Settings, precision: str, **fields: Any) -> build.Build:
    adapter = fields.pop("adapter", None)
    recipe = Recipe.model_validate({"precision": precision, **fields})
    return build.build(open_checkpoint(str(folder), adapter=adapter), recipe, settings)


def logits(made: build.Build) -> Any:
    return onnx_model.Runner(made.folder, 2).run(TOKENS, ["logits"])[0][0, -1]


def change(folder: Path, name: str, position: tuple[int, ...], value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name][position] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# --- what is built ---------------------------------------------------------------------------------------------------


def test_lower_precisions_stay_close_to_fp32(tiny: Path, settings: Settings) -> None:
    full = logits(make(tiny, settings, "fp32"))
    spread = float(full.std())
    for precision, allowed in (("fp16", 1e-3), ("int8", 0.05), ("int4", 0.6)):
        made = make(tiny, settings, precision, block_size=32)
        assert np.abs(logits(made) - full).mean() < allowed * spread, precision


@pytest.mark.parametrize(
    ("precision", "fields"),
    [("fp32", {}), ("fp16", {}), ("int8", {}), ("int4", {}), ("int4", {"symmetric": False, "block_size": 16})],
)
def test_the_plan_names_the_size(tiny: Path, settings: Settings, precision: str, fields: dict[str, Any]) -> None:
    recipe = Recipe.model_validate({"precision": precision, **fields})
    planned = build.plan(open_checkpoint(str(tiny)), recipe, settings)
    assert [step.name for step in planned.steps] == ["stream"]
    made = make(tiny, settings, precision, **fields)
    _, _, layout = design(open_checkpoint(str(tiny)), made.recipe)
    assert (made.folder / "model.onnx.data").stat().st_size == layout.size_bytes
    assert made.size_bytes == pytest.approx(planned.prediction.size_bytes, abs=20_000)
    assert made.recipe.builder == "stream"
    assert made.peak_memory_bytes > 10_000_000


def test_tied_embeddings_are_stored_once(tiny: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    _, _, layout = design(checkpoint, Recipe(precision=Precision.INT4, block_size=32))
    names = [blob.name for placed in layout for blob in placed.blobs if "embedding" in blob.name]
    assert names == ["embedding.packed", "embedding.scales"]
    assert "head" not in layout.weights


def test_an_adapter_changes_what_comes_out(tiny: Path, tiny_adapter: Path, settings: Settings) -> None:
    plain, adapted = make(tiny, settings, "fp32"), make(tiny, settings, "fp32", adapter=tiny_adapter)
    assert plain.key != adapted.key
    assert np.abs(logits(plain) - logits(adapted)).max() > 0.01


def test_a_finished_build_is_used_again(tiny: Path, settings: Settings) -> None:
    first = make(tiny, settings, "int4")
    before = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert make(tiny, settings, "int4", name="another name").key == first.key
    assert {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before


@pytest.mark.parametrize("fields", [{"block_size": 64}, {"symmetric": False}, {"method": "rtn"}, {"bits": 5.0}])
def test_every_field_of_the_recipe_counts(tiny: Path, settings: Settings, fields: dict[str, Any]) -> None:
    checkpoint = open_checkpoint(str(tiny))
    keys = [
        build.plan(checkpoint, Recipe.model_validate({"precision": "int4", "block_size": 32, **more}), settings)
        for more in ({}, fields)
    ]
    assert keys[0].steps[-1].key != keys[1].steps[-1].key


def test_the_words_of_the_default_need_not_be_written(tiny: Path, settings: Settings) -> None:
    checkpoint = open_checkpoint(str(tiny))
    keys = {
        build.plan(checkpoint, Recipe.model_validate({"precision": "int4", **fields}), settings).steps[-1].key
        for fields in ({}, {"method": "feedback"}, {"builder": "stream"}, {"name": "int4-fast"})
    }
    assert len(keys) == 1


# --- budgets and calibration -----------------------------------------------------------------------------------------


def bits_of(folder: Path, recipe: Recipe, sensitivities: dict[str, float]) -> Counter[int]:
    _, _, layout = design(open_checkpoint(str(folder)), recipe, sensitivities)
    return Counter(placed.storage.bits for placed in layout if isinstance(placed.storage, Scheme))


def test_a_budget_goes_to_the_matrices_that_need_it_most(tiny: Path) -> None:
    recipe = Recipe(precision=Precision.INT4, block_size=32, bits=5.0)
    _, _, blind = design(open_checkpoint(str(tiny)), recipe)
    needs = dict.fromkeys(blind.weights, 0.001) | {"layers.1.down": 1.0}
    _, _, layout = design(open_checkpoint(str(tiny)), recipe, needs)
    storage = layout.weights["layers.1.down"].storage
    assert isinstance(storage, Scheme)
    assert storage.bits == 8
    assert bits_of(tiny, recipe, {}).keys() == {4, 8}


@pytest.mark.parametrize("bits", [4.6, 5.0, 6.0, 8.4])
def test_a_budget_is_kept_and_used(tiny: Path, bits: float) -> None:
    recipe = Recipe(precision=Precision.INT4, block_size=32, bits=bits)
    _, _, layout = design(open_checkpoint(str(tiny)), recipe)
    stored = elements = 0
    for placed in layout:
        if isinstance(placed.weight, Matrix):
            stored += sum(8 * blob.nbytes for blob in placed.blobs)
            elements += placed.weight.rows * placed.weight.width
    # The embedding alone is a quarter of this model.
    assert bits - 1.1 < stored / elements <= bits


def test_where_no_matrix_can_be_weighed_all_get_four_bits(
    tiny: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gemma4 = {"architectures": ["Gemma4ForCausalLM"], "head_dim": 16, "global_head_dim": 32, "sliding_window": 8}
    layers = ["sliding_attention", "full_attention"]
    config = checkpoints.qwen2_config(**gemma4, layer_types=layers, hidden_size_per_layer_input=16)
    opened = open_checkpoint(str(tiny))
    assert stream.weighs_matrices(opened)
    assert not stream.weighs_matrices(replace(opened, config=config))

    monkeypatch.setattr(build, "weighs_matrices", lambda _: False)
    planned = build.plan(opened, named_recipe("int4", {}, where="here"), settings)
    assert (planned.recipe.bits, planned.recipe.tolerance) == (None, None)
    assert f"all matrices get 4 bits alike, since {stream.NOT_WEIGHED}" in planned.notes


def test_a_budget_below_four_bits_is_refused_with_what_they_take(tiny: Path) -> None:
    recipe = Recipe(precision=Precision.INT4, block_size=32, bits=4.2)
    with pytest.raises(PrecisionUnsupported, match=r"4\.50 bits a weight"):
        design(open_checkpoint(str(tiny)), recipe)


def test_all_budgets_of_bits_share_what_is_measured_first(tiny: Path, settings: Settings) -> None:
    def keys(**changes: Any) -> list[str]:
        recipe = Recipe.model_validate({"precision": "int4", "bits": 5.0, **changes})
        return [step.key for step in build.plan(open_checkpoint(str(tiny)), recipe, settings).steps]

    measured, built = keys()
    assert keys(bits=6.5)[0] == keys(accuracy_level=1)[0] == measured
    assert keys(bits=6.5)[1] != built
    assert measured not in (keys(block_size=32)[0], keys(symmetric=False)[0], keys(calibrate=False)[0])
    assert keys(bits=None, method="search")[0] != keys(method="search")[0]


def test_a_build_with_a_budget_measures_first(tiny: Path, settings: Settings, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    turns = [{"role": "user", "content": "hello world, how are you today?"}]
    texts.write_text(json.dumps({"messages": turns, "expected": "order"}) + "\n" + json.dumps({"text": "hello"}) + "\n")
    recipe = {"bits": 5.2, "block_size": 32, "calibration": texts}
    made = make(tiny, settings, "int4", **recipe)
    planned = build.plan(open_checkpoint(str(tiny)), Recipe.model_validate({"precision": "int4", **recipe}), settings)
    assert [(step.name, step.done) for step in planned.steps] == [("calibrate", True), ("stream", True)]
    found = json.loads((planned.steps[0].folder / stream_worker.SENSITIVITIES).read_bytes())
    assert set(found) >= {"embedding", "layers.0.qkv", "layers.1.down"}
    assert all(value >= 0 for value in found.values())
    assert max(found.values()) > 0
    assert sorted(path.name for path in planned.steps[0].folder.iterdir()) == [
        stream_worker.IMPORTANCE,
        stream_worker.SENSITIVITIES,
        "step.json",
    ]
    assert np.isfinite(logits(made)).all()
    texts.write_text(json.dumps({"text": "other words"}) + "\n")
    assert make(tiny, settings, "int4", **recipe).key != made.key


@pytest.mark.parametrize(
    ("content", "named"),
    [("", "no text"), ('{"text": "x"', "not valid JSON"), ('{"a": 1}', "neither"), ('{"messages": [1]}', "no list")],
)
def test_calibration_texts_that_cannot_be_used(
    tiny: Path, settings: Settings, tmp_path: Path, content: str, named: str
) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(content)
    with pytest.raises(CalibrationInvalid, match=named):
        make(tiny, settings, "int4", calibration=texts)
    assert not list(settings.builds_dir.glob(".tmp-*"))


def test_texts_that_change_after_the_build_was_planned_leave_no_result(
    tiny: Path, settings: Settings, tmp_path: Path
) -> None:
    texts = tmp_path / "texts"
    texts.write_text("hello world")
    recipe = Recipe(precision=Precision.INT4, calibration=texts)
    planned = build.plan(open_checkpoint(str(tiny)), recipe, settings)
    texts.write_text("good day")
    with pytest.raises(CalibrationInvalid, match="have changed since the build was planned"):
        build.carry_out(planned, settings)
    assert not [path for path in settings.builds_dir.iterdir() if path.name not in ("locks", "logs")]
    texts.write_text("hello world")
    assert build.carry_out(planned, settings).key == planned.steps[-1].key


def test_few_texts_and_texts_that_nobody_reads_are_told_beforehand(
    tiny: Path, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "texts").write_text("hello world")
    recipe = Recipe(precision=Precision.INT4, calibration=tmp_path / "texts")
    checkpoint = open_checkpoint(str(tiny))
    assert "built-in texts are read too" in build.plan(checkpoint, recipe, settings).notes[-1]
    by_genai = recipe.model_copy(update={"builder": "genai", "method": "rtn"})
    assert build.plan(checkpoint, by_genai, settings).notes[-1] == "the builder genai reads no calibration texts"
    (tmp_path / "texts").write_text("")
    with pytest.raises(CalibrationInvalid, match="no text"):
        build.plan(checkpoint, recipe, settings)


def whole(value: float) -> Callable[[Any], None]:
    return lambda tensor: tensor.fill(value)


def twins(tensor: Any) -> None:
    """Inputs that the matrix after it cannot tell from each other."""
    tensor[1::2] = tensor[::2]


@pytest.mark.parametrize(
    ("method", "name", "change"),
    [
        ("feedback", "model.layers.1.input_layernorm.weight", whole(0)),  # the matrices after it read nothing but zeros
        ("feedback", "model.layers.0.post_attention_layernorm.weight", lambda tensor: tensor[:50].fill(0)),
        ("feedback", "model.layers.0.mlp.gate_proj.weight", twins),
        ("feedback", "model.layers.1.mlp.up_proj.weight", whole(0)),
        ("feedback", "model.layers.0.self_attn.q_proj.weight", whole(0)),
        ("feedback", "model.layers.0.mlp.down_proj.weight", lambda tensor: tensor[3].fill(0)),
        ("feedback", "model.layers.0.mlp.down_proj.weight", lambda tensor: tensor[3].fill(1e3)),
        ("search", "model.layers.0.self_attn.q_proj.weight", whole(0)),
        ("search", "model.layers.0.mlp.down_proj.weight", lambda tensor: tensor[3].fill(1e3)),
    ],
)
def test_what_is_dead_twice_there_or_huge_is_calibrated_all_the_same(
    tiny: Path, settings: Settings, tmp_path: Path, method: str, name: str, change: Callable[[Any], None]
) -> None:
    weights = load_file(tiny / "model.safetensors")
    change(weights[name])
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "texts").write_text(" ".join(map(str, range(300))))
    expected = logits(make(tiny, settings, "fp32"))
    fields = {"method": method, "block_size": 32, "calibration": tmp_path / "texts"}
    found = logits(make(tiny, settings, "int4", **fields))
    assert np.abs(found - expected).mean() < 0.6 * expected.std()


# --- other builders --------------------------------------------------------------------------------------------------


def test_what_genai_alone_does_goes_there_and_says_so(tiny: Path, settings: Settings) -> None:
    planned = build.plan(open_checkpoint(str(tiny)), Recipe(precision=Precision.INT8, method="k_quant"), settings)
    assert [step.name for step in planned.steps] == ["convert"]
    assert "k_quant" in planned.notes[-1]
    assert "onnxruntime-genai" in planned.notes[-1]


def test_an_architecture_that_nobody_knows_is_refused(tiny: Path, settings: Settings) -> None:
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(architectures=["MambaForCausalLM"]))
    for builder in ("auto", "stream"):
        with pytest.raises(ArchitectureUnknown, match="MambaForCausalLM"):
            build.plan(open_checkpoint(str(tiny)), Recipe(precision=Precision.INT4, builder=builder), settings)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"hidden_act": "relu6"}, "relu6"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
        ({"head_dim": 20, "num_attention_heads": 4, "num_key_value_heads": 2}, "k_proj"),
    ],
)
def test_configs_that_cannot_be_converted_name_the_field(
    tiny: Path, settings: Settings, changes: dict[str, Any], named: str
) -> None:
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(**changes))
    with pytest.raises(CheckpointInvalid, match=named):
        build.plan(open_checkpoint(str(tiny)), Recipe(precision=Precision.INT4), settings)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_damaged_weight_is_named_and_nothing_is_left(tiny: Path, settings: Settings, value: float) -> None:
    change(tiny, "model.layers.1.mlp.up_proj.weight", (3, 4), value)
    with pytest.raises(WeightsDamaged, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        make(tiny, settings, "int4")
    assert not [path for path in settings.builds_dir.iterdir() if path.name not in ("locks", "logs")]


def test_what_fp16_cannot_hold_is_named(tiny: Path, settings: Settings) -> None:
    change(tiny, "model.layers.1.mlp.up_proj.weight", (3, 4), 70_000.0)
    with pytest.raises(PrecisionUnsupported, match=r"model\.layers\.1\.mlp\.up_proj\.weight.*70000"):
        make(tiny, settings, "fp16")
    assert not list(settings.builds_dir.glob(".tmp-*"))


def test_a_full_disk_leaves_no_half_build(tiny: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        del arguments, options
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(data_file, "write", full)
    job: dict[str, Any] = {
        "step": "stream",
        "checkpoint": str(tiny),
        "allow_pickle": False,
        "adapter": None,
        "chat_template": None,
        "source": str(tiny),
    }
    job |= {"recipe": {"precision": "int8", "method": "search"}, "folder": str(settings.home)}
    with pytest.raises(DiskShort):
        stream_worker.work(job, silent)


# --- disturbances ----------------------------------------------------------------------------------------------------

KILLED = """
import sys, time
from edgeship import settings
from edgeship.builder import data_file
from edgeship import builder as build
from edgeship.checkpoint import open_checkpoint
from edgeship.recipe import Recipe
recipe = Recipe(precision="int4", method=sys.argv[2])
build.build(open_checkpoint(sys.argv[1]), recipe, settings.resolve())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "begun"),
    [("search", "journal-*.jsonl"), ("feedback", ".scratch/states-0.bin"), ("feedback", ".scratch/states-1.bin")],
)
def test_a_killed_build_goes_on_and_comes_out_the_same(
    tmp_path: Path, settings: Settings, method: str, begun: str
) -> None:
    config = checkpoints.qwen2_config(vocab_size=40_000, num_hidden_layers=2)
    folder = checkpoints.make_checkpoint(tmp_path / "large", config=config)
    weights = checkpoints.qwen2_weights()
    rng = np.random.default_rng(0)
    weights["model.embed_tokens.weight"] = rng.standard_normal((40_000, checkpoints.HIDDEN)).astype(np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    expected = (make(folder, settings, "int4", method=method).folder / "model.onnx.data").read_bytes()
    environment = os.environ | {"EDGESHIP_HOME": str(tmp_path / "other")}
    builds = tmp_path / "other" / "builds"
    command = [sys.executable, "-c", KILLED, str(folder), method]
    running = subprocess.Popen(command, env=environment)
    until(lambda: bool(list(builds.glob(f".tmp-*/{begun}"))))
    running.kill()
    running.wait()
    assert list(builds.glob(".tmp-*")) or list(builds.glob("*/step.json"))
    subprocess.run(command, env=environment, check=True)
    assert not list(builds.glob(".tmp-*"))
    assert next(builds.glob("*/model.onnx.data")).read_bytes() == expected


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--bits", "5", "--block-size", "32"]], ids=["feedback", "bits"])
def test_killed_at_any_moment_the_same_command_makes_the_same_files(tmp_path: Path, options: list[str]) -> None:
    """What was left of it may be damaged, too."""
    checkpoint = Path(__file__).parents[2] / "examples" / "triage" / "checkpoint"
    command = [sys.executable, "-m", "edgeship", "build", str(checkpoint), "-p", "int4", "--force-resources", *options]

    def begin(name: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"EDGESHIP_HOME": str(tmp_path / f"home-{name}")}
        return subprocess.Popen([*command, "-o", str(tmp_path / name)], env=environment)

    def made(name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    started = time.monotonic()
    assert begin("whole").wait() == 0
    whole_s = time.monotonic() - started
    moments = Random(0)
    for name in ("first", "second"):
        for _ in range(2):
            running = begin(name)
            time.sleep(moments.uniform(0.2, 1) * whole_s)
            running.kill()
            running.wait()
            time.sleep(1)  # children end a moment after their parent
            for path in (tmp_path / f"home-{name}" / "builds").glob(".tmp-*/.scratch/*"):
                path.write_bytes(path.read_bytes()[:-9] + b"damaged")
        assert begin(name).wait() == 0
        assert made(name) == made("whole")


def test_a_child_that_is_killed_is_told_and_its_work_kept(
    tiny: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeship.system import child

    def killed(*arguments: Any, **options: Any) -> None:
        del arguments, options
        raise child.Died(-9, ["writing"])

    with monkeypatch.context() as patched:
        patched.setattr(child, "run", killed)
        with pytest.raises(MemoryShort, match="killed") as caught:
            make(tiny, settings, "int4")
    assert "goes on" in str(caught.value.hint)
    assert len(list(settings.builds_dir.glob(".tmp-*"))) == 1
    make(tiny, settings, "int4")
    assert not list(settings.builds_dir.glob(".tmp-*"))
