"""Olive workflows: every field is honoured, noted or refused."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.errors import PrecisionUnsupported, RecipeInvalid
from edgeship.recipe import Precision, Recipe, RecipeFile
from edgeship.recipe.olive import parse, render

TUTORIAL: dict[str, Any] = {
    "input_model": {"type": "HfModel", "model_path": "models/qwen", "adapter_path": "models/lora"},
    "systems": {
        "local_system": {
            "type": "LocalSystem",
            "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
        }
    },
    "passes": {
        "builder": {
            "type": "ModelBuilder",
            "precision": "int4",
            "quantization_config": {"block_size": 128, "is_symmetric": False},
        }
    },
    "host": "local_system",
    "target": "local_system",
    "log_severity_level": 1,
    "cache_dir": "cache",
    "output_dir": "models/out",
}


NO_OBJECTS: list[Any] = [0, False, "", []]


def read(workflow: Any) -> RecipeFile:
    return parse(json.dumps(workflow), where="olive.json")


def changed(path: str, value: Any) -> dict[str, Any]:
    """The tutorial's workflow with one value set; path as in the messages."""
    workflow = copy.deepcopy(TUTORIAL)
    *outer, last = path.split(".")
    inner = workflow
    for key in outer:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return workflow


def refused(workflow: Any) -> str:
    with pytest.raises(RecipeInvalid) as caught:
        read(workflow)
    assert caught.value.where == "olive.json"
    assert caught.value.hint
    return caught.value.what


def test_the_tutorials_workflow_is_honoured() -> None:
    found = read(TUTORIAL)
    assert found.recipe == Recipe(precision=Precision.INT4, block_size=128, symmetric=False)
    assert found.checkpoint == "models/qwen"
    assert found.adapter == Path("models/lora")
    assert found.output == Path("models/out")
    assert [note.split()[0] for note in found.notes] == ["log_severity_level", "cache_dir"]


@pytest.mark.parametrize("prefix", ["", "int4_"])
@pytest.mark.parametrize("place", ["flat", "config", "quantization_config", "extra_options", "top"])
def test_quantization_options_are_honoured_wherever_workflows_put_them(prefix: str, place: str) -> None:
    options = {
        f"{prefix}block_size": 64,
        f"{prefix}is_symmetric": False,
        f"{prefix}accuracy_level": 1,
        f"{prefix}algo_config": "k_quant",
    }
    step: dict[str, Any] = {"type": "ModelBuilder", "precision": "int4"}
    workflow: dict[str, Any] = {"passes": {"b": step}}
    if place == "flat":
        step |= options
    elif place == "top":
        workflow["quantization_config"] = options
    elif place == "config":
        step["config"] = options
    else:
        step[place] = options
    expected = Recipe(precision=Precision.INT4, block_size=64, symmetric=False, accuracy_level=1, method="k_quant")
    assert read(workflow) == RecipeFile(recipe=expected)


@pytest.mark.parametrize(("given_name", "method"), [("default", "rtn"), ("rtn", "rtn"), ("k_quant", "k_quant")])
def test_algorithms_have_our_names(given_name: str, method: str) -> None:
    assert read(changed("passes.builder.int4_algo_config", given_name)).recipe.method == method


def test_older_forms_are_read() -> None:
    found = read(
        {
            "input_model": {"type": "HfModel", "config": {"model_path": "m", "task": "text-generation"}},
            "systems": {"s": {"type": "LocalSystem", "config": {"accelerators": [{"device": "CPU"}]}}},
            "engine": {"target": "s", "host": "s", "output_dir": "out", "log_severity_level": 0},
            "passes": {"b": [{"type": "ModelBuilder", "config": {"precision": "INT8"}}]},
        }
    )
    assert (found.checkpoint, found.output, found.recipe.precision) == ("m", Path("out"), Precision.INT8)
    assert found.notes[0].startswith("engine.log_severity_level ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "local_system"),
        ("int4_op_types_to_quantize", ["MatMul"]),
        ("int4_nodes_to_exclude", []),
        (
            "extra_options",
            {"hf_remote": False, "hf_token": "false", "filename": "model.onnx", "shared_embeddings": True},
        ),
    ],
)
def test_what_is_done_anyway_may_be_asked_for(name: str, value: Any) -> None:
    assert read(changed(f"passes.builder.{name}", value)) == read(TUTORIAL)


def test_a_revision_may_stand_among_extra_arguments() -> None:
    asked = {"extra_args": {"revision": "abc"}}
    assert read(changed("input_model.load_kwargs", asked)).checkpoint == "models/qwen@abc"


def test_a_pinned_revision_goes_with_the_checkpoint() -> None:
    assert read(changed("input_model.load_kwargs", {"revision": "abc"})).checkpoint == "models/qwen@abc"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("evaluators", {"e": {}}),
        ("data_configs", []),
        ("clean_cache", True),
        ("passes.merge", {"type": "MergeAdapterWeights"}),
        ("input_model.load_kwargs", {"attn_implementation": "eager"}),
        ("systems.gpu", {"type": "LocalSystem", "accelerators": [{"device": "gpu"}]}),
        ("systems.local_system.hf_token", True),
        ("cache_config", {"cache_dir": "cache"}),
        ("enable_shared_cache", False),
        ("plot_pareto_frontier", True),
        ("input_model.io_config", {"input_names": ["input_ids"]}),
        ("input_model.load_kwargs", {"extra_args": {"use_safetensors": True}}),
        ("passes.builder.evaluator", "speed"),
        ("passes.builder.extra_options", {"hf_token": "true"}),
    ],
)
def test_harmless_fields_are_noted_by_name(path: str, value: Any) -> None:
    found = read(changed(path, value))
    assert any(note.startswith(path) for note in found.notes), found.notes
    assert found.recipe == read(TUTORIAL).recipe


def test_quantization_of_fp16_is_noted_as_unused() -> None:
    found = read(changed("passes.builder.precision", "fp16"))
    assert any(note.startswith("passes.builder.quantization_config.block_size ") for note in found.notes)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("passes.builder.precision", "bf16", "passes.builder.precision"),
        ("passes.builder.quantization_config.block_size", 48, "passes.builder.quantization_config.block_size"),
        ("passes.builder.quantization_config.block_size", [32], "passes.builder.quantization_config.block_size"),
        ("passes.builder.quantization_config.bits", 3, "passes.builder.quantization_config.bits"),
        ("passes.builder.int4_block_size", 64, "passes.builder.quantization_config.block_size says 128"),
        ("passes.builder.int4_algo_config", "rtn_last", '"rtn_last"'),
        ("passes.builder.int4_algo_config", ["rtn"], "passes.builder.int4_algo_config"),
        ("passes.builder.int4_accuracy_level", 2, "passes.builder.int4_accuracy_level"),
        ("passes.builder.exclude_lm_head", True, "passes.builder.exclude_lm_head"),
        ("passes.builder.use_qdq", 1, "passes.builder.use_qdq"),
        ("passes.builder.use_cuda_bf16", True, "passes.builder.use_cuda_bf16"),
        ("passes.builder.int4_op_types_to_quantize", ["Gemm"], "passes.builder.int4_op_types_to_quantize"),
        ("passes.builder.extra_options", {"hf_remote": True}, "passes.builder.extra_options.hf_remote"),
        ("passes.builder.extra_options", {"num_hidden_layers": 2}, "passes.builder.extra_options.num_hidden_layers"),
        ("passes.builder.host", "elsewhere", 'passes.builder.host: names no system of this file: "elsewhere"'),
        ("passes.builder.host", {"type": "Docker"}, "passes.builder.host.type"),
        (
            "input_model.load_kwargs",
            {"extra_args": {"trust_remote_code": True}},
            "input_model.load_kwargs.extra_args.trust_remote_code",
        ),
        ("passes.builder.extra_options", "x", "passes.builder.extra_options: must be an object"),
        ("passes.gptq", {"type": "GptqQuantizer"}, "passes.gptq.type"),
        ("passes.second", {"type": "ModelBuilder"}, "2 ModelBuilder passes"),
        ("passes.builder", {"type": "OnnxConversion"}, "no ModelBuilder pass"),
        ("passes.builder", "ModelBuilder", "passes.builder: must be an object"),
        ("passes", {}, "passes: a ModelBuilder pass"),
        ("passes.builder", {"type": "ModelBuilder"}, "gives no precision"),
        ("input_model.type", "ONNXModel", "input_model.type"),
        ("input_model.task", "text-classification", "input_model.task"),
        ("input_model.model_path", 5, "input_model.model_path"),
        ("input_model.model_script", "x.py", "input_model.model_script"),
        ("input_model.load_kwargs", {"trust_remote_code": True}, "input_model.load_kwargs.trust_remote_code"),
        ("input_model.load_kwargs", {"torch_dtype": "float16"}, "input_model.load_kwargs.torch_dtype"),
        ("input_model.torch_dtype", "float16", 'input_model.torch_dtype: "float16" would round the weights'),
        ("input_model.trust_remote_code", True, "input_model.trust_remote_code: true code from"),
        ("systems.local_system.type", "AzureML", "systems.local_system.type"),
        ("systems.local_system.accelerators", [{"device": "gpu"}], "systems.local_system.accelerators[0].device"),
        (
            "systems.local_system.accelerators",
            [{"device": "cpu", "execution_providers": ["CPUExecutionProvider", "CUDAExecutionProvider"]}],
            "systems.local_system.accelerators[0].execution_providers[1]",
        ),
        ("target", "elsewhere", 'target: names no system of this file: "elsewhere"'),
        ("target", {"type": "LocalSystem", "accelerators": [{"device": "npu"}]}, "target.accelerators[0].device"),
        ("search_strategy", {"execution_order": "joint"}, "search_strategy"),
        ("pass_flows", [["builder"]], "pass_flows"),
        ("output_dir", 5, "output_dir"),
        ("packaging_config", {}, "packaging_config"),
        ("systems", [], "systems: must be an object"),
        ("output_dir", "a\0b", "output_dir: must be a path"),
        ("input_model.adapter_path", "a\0b", "input_model.adapter_path: must be a path"),
        ("pass_flows", 0, "pass_flows"),
        ("search_strategy", 0, "search_strategy"),
        *(
            (path, value, f"{path}: must be an object")
            for path in (
                "passes.builder.extra_options",
                "passes.builder.quantization_config",
                "input_model.load_kwargs",
                "input_model.load_kwargs.extra_args",
            )
            for value in NO_OBJECTS
        ),
    ],
)
def test_what_would_change_the_result_is_refused_by_its_path(path: str, value: Any, named: str) -> None:
    assert named in refused(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("engine.passes", {"b": {"type": "ModelBuilder", "precision": "fp32"}}, "engine.passes says {"),
        ("engine.output_dir", "other", 'engine.output_dir says "other", but output_dir says "models/out"'),
        (
            "input_model.config",
            {"model_path": "other"},
            'input_model.config.model_path says "other", but input_model.m',
        ),
        ("passes.builder.config", {"precision": "fp32"}, 'passes.builder.config.precision says "fp32", but passes.b'),
        ("input_model.load_kwargs", {"revision": "a", "extra_args": {"revision": "b"}}, 'revision says "a"'),
    ],
)
def test_what_says_something_else_in_two_places_is_refused_with_both(path: str, value: Any, said: str) -> None:
    assert said in refused(changed(path, value)).replace(":", "", 1)


def test_what_says_the_same_in_two_places_is_honoured() -> None:
    assert read(changed("engine.output_dir", "models/out")).output == Path("models/out")
    assert read(changed("engine.passes", TUTORIAL["passes"])).recipe == read(TUTORIAL).recipe


def test_a_home_is_spelled_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert read(changed("output_dir", "~/out")).output == tmp_path / "out"
    assert "there is no such user" in refused(changed("output_dir", "~nobody-here/out"))


def test_all_faults_are_listed_at_once() -> None:
    workflow = changed("passes.builder.precision", "int2")
    workflow["surprise"] = 1
    workflow["input_model"]["type"] = "ONNXModel"
    what = refused(workflow)
    assert all(name in what for name in ("passes.builder.precision", "surprise", "input_model.type"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"passes": {\n  "b": }}', "line 2, column 8"),
        ("[]", "object"),
        ("", "line 1, column 0: EOF"),
        ('{"passes": {}, "passes": {}}', "'passes' is there twice"),
        ("[" * 100_000, "recursion limit exceeded"),
    ],
    ids=["syntax", "list", "empty", "twice", "deep"],
)
def test_what_is_no_workflow_is_refused(text: str, named: str) -> None:
    with pytest.raises(RecipeInvalid, match=named) as caught:
        parse(text, where="olive.json")
    assert caught.value.where == "olive.json"


EXPRESSIBLE = st.builds(
    Recipe,
    precision=st.just(Precision.INT4),
    block_size=st.sampled_from([16, 32, 64, 128, 256]),
    symmetric=st.booleans(),
    accuracy_level=st.sampled_from([1, 4]),
    method=st.sampled_from([None, "rtn", "k_quant"]),
) | st.just(Recipe(precision=Precision.FP32))
PLACES = st.text("abüß字 ./\\", min_size=1, max_size=20).filter(lambda text: str(Path(text)).strip())


@given(EXPRESSIBLE, PLACES, PLACES | st.none(), PLACES)
def test_what_is_rendered_is_read_back(recipe: Recipe, model: str, adapter: str | None, output: str) -> None:
    found = parse(render(recipe, model, adapter, output, "cache"), where="olive.json")
    assert found.recipe == recipe
    assert found.checkpoint == model
    assert found.adapter == (None if adapter is None else Path(adapter))
    assert found.output == Path(output)
    expected = ["cache_dir"] if adapter is None else ["passes.merge", "cache_dir"]
    assert sorted(note.split()[0] for note in found.notes) == sorted(expected)


@pytest.mark.parametrize(
    ("fields", "error", "named"),
    [
        ({"precision": "fp16"}, PrecisionUnsupported, "fp16"),
        ({"precision": "int8"}, PrecisionUnsupported, "int8"),
        ({"precision": "int4", "method": "search"}, RecipeInvalid, "method search"),
        ({"precision": "int4", "method": "feedback", "calibration": "texts"}, RecipeInvalid, "calibration"),
        ({"precision": "int4", "bits": 5.0}, RecipeInvalid, "bits"),
    ],
)
def test_what_olive_lacks_is_refused_by_name(fields: dict[str, Any], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        render(Recipe.model_validate(fields), "model", None, "out")


def test_what_fp32_does_not_use_is_no_obstacle() -> None:
    rendered = render(Recipe(precision=Precision.FP32, method="search"), "model", None, "out")
    assert json.loads(rendered)["passes"]["builder"].keys() == {"type", "precision", "extra_options"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 300)
    | st.sampled_from(["ModelBuilder", "cpu", "int4", "LocalSystem", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "config", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
PATHS = [
    "input_model",
    "input_model.load_kwargs",
    "input_model.config",
    "systems",
    "systems.local_system",
    "systems.local_system.accelerators",
    "host",
    "engine",
    "passes",
    "passes.builder",
    "passes.builder.precision",
    "passes.builder.int4_block_size",
    "passes.builder.int4_algo_config",
    "passes.builder.extra_options",
    "quantization_config",
    "output_dir",
]


@given(st.sampled_from(PATHS), JSON)
def test_anything_is_read_or_refused_but_never_breaks(path: str, value: Any) -> None:
    with contextlib.suppress(RecipeInvalid):
        assert isinstance(read(changed(path, value)).recipe, Recipe)
