"""What genai_config.json may set: usual packages go on working, and what could run code or lead out is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import PackageRefused
from edgeship.package import DAMAGED, genai_config
from edgeship.package.genai_allowed import settings
from edgeship.system.foreign import stays_inside
from tests.checkpoints import write_json
from tests.packages import GENAI_CONFIG, make_package


def with_session(**session: Any) -> dict[str, Any]:
    return {"model": {"decoder": {"session_options": session}}}


def with_provider(name: str, **options: Any) -> dict[str, Any]:
    return with_session(provider_options=[{name: options}])


def stage(filename: str, **more: Any) -> dict[str, Any]:
    return {
        "filename": filename,
        "inputs": ["input_ids"],
        "outputs": ["inputs_embeds"],
        "run_on_prompt": True,
        "session_options": {"provider_options": [{"qnn": {"backend_path": "QnnHtp.dll"}}]},
        **more,
    }


USUAL: dict[str, dict[str, Any]] = {
    "ours": GENAI_CONFIG,
    "onnxruntime-genai's builder, with a sliding window": {
        "model": {
            "bos_token_id": 1,
            "context_length": 32768,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": "model.onnx",
                "head_size": 64,
                "sliding_window": {
                    "window_size": 512,
                    "slide_key_value_cache": False,
                    "slide_inputs": False,
                    "layers": [0, 2],
                    "alignment": "left",
                },
                "inputs": {"input_ids": "input_ids", "past_key_names": "past_key_values.%d.key"},
                "outputs": {"logits": "logits", "present_key_names": "present.%d.key"},
                "num_attention_heads": 14,
            },
            "eos_token_id": [151645, 151643],
            "pad_token_id": 151643,
            "type": "qwen2",
            "vocab_size": 151936,
        },
        "search": {
            "diversity_penalty": 0.0,
            "do_sample": True,
            "early_stopping": True,
            "length_penalty": 1.0,
            "max_length": 32768,
            "no_repeat_ngram_size": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": True,
            "top_p": 0.8,
        },
        "engine": {"dynamic_batching": {"block_size": 256, "gpu_utilization_factor": 0.6}},
    },
    "several models": {
        "model": {
            "type": "phi3v",
            "tdt_durations": [0, 1, 2],
            "embedding": {"filename": "embedding.onnx", "inputs": {"input_ids": "input_ids"}},
            "vision": {
                "filename": "vision.onnx",
                "config_filename": "processor_config.json",
                "adapter_filename": "vision.onnx_adapter",
                "spatial_merge_size": 2,
                "outputs": {"image_features": "image_features"},
            },
            "speech": {"filename": "speech/speech.onnx", "config_filename": "audio_processor_config.json"},
            "encoder": {"filename": "encoder.onnx", "run_options": {"memory.enable_memory_arena_shrinkage": "cpu:0"}},
            "decoder": {"filename": "decoder.onnx", "layer_types": ["conv", "full_attention"], "conv_cache_size": 4},
            "mtp": {"main_hidden_states": "hidden", "shared_initializers": [{"name": "w", "data_file": "m.data"}]},
        }
    },
    "a pipeline": {
        "model": {"decoder": {"pipeline": [{"embed": stage("embed.onnx")}, {"context": stage("ctx.onnx")}]}}
    },
    "a pipeline by name": {
        "model": {"decoder": {"pipeline": {"embed": stage("embed.onnx", output_names_forwarder={"a": "b"})}}}
    },
    "threads and graph": with_session(
        intra_op_num_threads=4,
        inter_op_num_threads=1,
        graph_optimization_level="ORT_ENABLE_ALL",
        enable_mem_pattern=False,
        **{"session.intra_op.allow_spinning": "0", "session.use_device_allocator_for_initializers": "0"},
    ),
    "cpu": with_provider("cpu"),
    "cuda": with_provider("cuda", enable_cuda_graph="0", enable_skip_layer_norm_strict_mode="1"),
    "cuda by its full name": with_provider("CUDAExecutionProvider", device_id="0"),
    "dml": with_provider("dml", enable_graph_capture="1"),
    "webgpu": with_provider("WebGPU", enableGraphCapture="0", validationMode="basic"),
    "openvino": with_provider(
        "OpenVINO",
        device_type="NPU",
        enable_causallm="True",
        load_config='{"NPU": {"MAX_PROMPT_LEN": "1024", "MIN_RESPONSE_LEN": "128"}}',
    ),
    "qnn": with_provider(
        "qnn",
        backend_path="QnnHtp.dll",
        htp_performance_mode="burst",
        htp_graph_finalization_optimization_mode="3",
        soc_model="60",
    ),
    "trt": with_provider("NvTensorRtRtx", enable_cuda_graph="1"),
    "a chosen device": with_provider(
        "OpenVINO", device_type="GPU", device_filtering_options={"hardware_device_type": "gpu"}
    ),
    "nulls": {"model": {"decoder": {"session_options": None, "filename": None}, "vision": None}, "search": None},
}

NOT_ALLOWED: list[tuple[str, Any, dict[str, Any]]] = [
    (f"model.decoder.session_options.{key}", value, with_session(**{key: value}))
    for key, value in {
        "custom_ops_library": "evil.so",
        "enable_profiling": "/tmp/trace",
        "session.model_external_initializers_file_folder_path": "/etc",
        "session.optimized_model_filepath": "/tmp/graph.onnx",
        "ep.context_enable": "1",
        "ep.context_file_path": "../ctx.onnx",
        "register_custom_ops": 1,
        "graph_optimization_level": "evil.so",
        "intra_op_num_threads ": "4",
    }.items()
]
NOT_ALLOWED += [
    (
        f"model.decoder.session_options.provider_options[0].{provider}.{key}",
        value,
        with_provider(provider, **{key: value}),
    )
    for provider, key, value in [
        ("cuda", "user_compute_stream", "94839275"),
        ("cuda", "gpu_external_alloc", "94839275"),
        ("qnn", "backend_path", "./evil.so"),
        ("QNNExecutionProvider", "backend_path", "C:\\evil.dll"),
        ("qnn", "profiling_file_path", "/tmp/a"),
        ("qnn", "op_packages", "evil.so"),
        ("OpenVINO", "cache_dir", "/tmp/a"),
        ("OpenVINO", "load_config", "/etc/passwd"),
        ("OpenVINO", "load_config", '{"CPU": {"CACHE_DIR": "/tmp"}}'),
        ("OpenVINO", "context", "94839275"),
        ("webgpu", "dawnProcTable", "94839275"),
        ("NvTensorRtRtx", "nv_runtime_cache_path", "/tmp/a"),
        ("cpu", "anything", "1"),
    ]
]
NOT_ALLOWED += [
    ("model.decoder.session_options.provider_options[0].VitisAI", {}, with_provider("VitisAI")),
    ("model.decoder.session_options.provider_options[0].evil", {"a": "b"}, with_provider("evil", a="b")),
    ("custom_ops_library", "evil.so", {"custom_ops_library": "evil.so"}),
    ("model.tokenizer_dir", "/etc", {"model": {"tokenizer_dir": "/etc"}}),
    ("model.library", "evil.so", {"model": {"library": "evil.so"}}),
    ("model.plugin", {"path": "evil.so"}, {"model": {"plugin": {"path": "evil.so"}}}),
    ("model.decoder.library", "evil.so", {"model": {"decoder": {"library": "evil.so"}}}),
    (
        "model.decoder.run_options.qnn.lora_config",
        "/etc/a",
        {"model": {"decoder": {"run_options": {"qnn.lora_config": "/etc/a"}}}},
    ),
    ("search.library", "evil.so", {"search": {"library": "evil.so"}}),
    ("search.num_beams", 10**6, {"search": {"num_beams": 10**6}}),
    ("engine.plugin", "evil.so", {"engine": {"plugin": "evil.so"}}),
]
NOT_ALLOWED += [
    (f"{place}.{key}", "../out.onnx", document)
    for place, key, document in [
        (f"model.{part}", key, {"model": {part: {key: "../out.onnx"}}})
        for part in ("decoder", "encoder", "draft", "embedding", "vision", "speech", "joiner", "vad", "mtp")
        for key in ("filename", "config_filename", "adapter_filename")
    ]
]
NOT_ALLOWED += [
    (
        f"model.{part}.session_options.custom_ops_library",
        "evil.so",
        {"model": {part: with_session(custom_ops_library="evil.so")["model"]["decoder"]}},
    )
    for part in ("encoder", "draft", "embedding", "vision", "speech", "joiner", "vad", "mtp")
]
NOT_ALLOWED += [
    (
        "model.decoder.pipeline[0].embed.session_options.custom_ops_library",
        "evil.so",
        {"model": {"decoder": {"pipeline": [{"embed": {"session_options": {"custom_ops_library": "evil.so"}}}]}}},
    ),
    (
        "model.vision.pipeline.embed.filename",
        "/etc/passwd",
        {"model": {"vision": {"pipeline": {"embed": {"filename": "/etc/passwd"}}}}},
    ),
    (
        "model.decoder.shared_initializers[0].data_file",
        "/etc/passwd",
        {"model": {"decoder": {"shared_initializers": [{"data_file": "/etc/passwd"}]}}},
    ),
]


@pytest.mark.parametrize("document", USUAL.values(), ids=USUAL)
def test_what_usual_packages_set_is_allowed(document: dict[str, Any]) -> None:
    assert [setting for setting in settings(document) if not setting.allowed] == []


@pytest.mark.parametrize(
    ("name", "value", "document"), NOT_ALLOWED, ids=[f"{name}={value}" for name, value, _ in NOT_ALLOWED]
)
def test_what_is_not_listed_is_refused_by_name_and_value(name: str, value: Any, document: dict[str, Any]) -> None:
    assert [(each.name, each.value) for each in settings(document) if not each.allowed] == [(name, value)]


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../a", "a/../b", "..", ".", "./a", "a//b", "a/", "C:a", "C:\\a", "\\\\host\\a", "a\\..\\b"),
        *("a\0", "//host/a", "a" * 256, "é" * 128),
    ],
)
def test_names_that_do_not_stay_inside_on_every_system(name: str) -> None:
    assert not stays_inside(name)
    assert [each.allowed for each in settings({"model": {"decoder": {"filename": name}}})] == [False]


def test_the_files_that_it_names() -> None:
    document = GENAI_CONFIG["model"] | {"vision": {"filename": "v.onnx", "adapter_filename": ""}}
    path = Path("model", "genai_config.json")
    assert genai_config.parse({"model": document}, path, DAMAGED).files == {"model.onnx", "v.onnx"}


def test_what_is_refused_is_told_with_its_place_and_a_count(tmp_path: Path) -> None:
    session = {"custom_ops_library": "evil.so", "enable_profiling": "/tmp/a"}
    document = {"model": GENAI_CONFIG["model"] | with_session(**session)["model"]}
    write_json(tmp_path / "genai_config.json", document)
    with pytest.raises(PackageRefused) as caught:
        genai_config.read(tmp_path, DAMAGED)
    assert caught.value.what == (
        "genai_config.json has model.decoder.session_options.custom_ops_library 'evil.so', which no package may set; "
        "and 1 more"
    )
    assert (caught.value.where, caught.value.exit_code) == (str(tmp_path / "genai_config.json"), 2)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json", "inner/vision.onnx"])
def test_files_that_libraries_open_are_of_the_package(name: str, tmp_path: Path) -> None:
    folder = make_package(tmp_path / "model").folder
    genai_config.read(folder, DAMAGED)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    document = {"model": GENAI_CONFIG["model"] | {"vision": {"filename": "inner/vision.onnx"}}}
    write_json(folder / "genai_config.json", document)
    with pytest.raises(PackageRefused, match=rf"{path.name} cannot be read: it is a link that leads out"):
        genai_config.read(folder, DAMAGED)


@pytest.mark.skipif(os.name != "posix", reason="pipes that have a path")
def test_a_pipe_in_a_package_is_not_waited_for(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "model").folder
    (folder / "model.onnx.data").unlink()
    if sys.platform != "win32":
        os.mkfifo(folder / "model.onnx.data")
    with pytest.raises(PackageRefused, match=r"model\.onnx\.data cannot be read: it is a pipe"):
        genai_config.read(folder, DAMAGED)
