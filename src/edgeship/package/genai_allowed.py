"""What genai_config.json may set. Whoever runs a package passes the file on to onnxruntime-genai or Foundry Local.

Those load libraries that the file names, open files by it, and hand its options to ONNX Runtime and its execution
providers, some of which take paths and addresses of memory. A package comes from a stranger, so what is not listed here
is refused: texts are allowed by name, files where they stay in the package, and numbers and flags, which name nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeship.system.foreign import stays_inside

MOST_BEAMS = 64


@dataclass(frozen=True)
class _Object:
    """An object with these fields, and others where they are of the shape `others`."""

    fields: Mapping[str, Shape]
    others: Shape | None = None


@dataclass(frozen=True)
class _List:
    item: Shape


@dataclass(frozen=True)
class _Providers:
    """An object with the options of one execution provider under its name, which has several spellings."""


Leaf = Callable[[Any], bool]
Shape = _Object | _List | _Providers | Leaf | tuple["Shape", ...]
"""What a value may be; one of several by its type where it is a tuple: an object, a list or else."""


@dataclass(frozen=True)
class Setting:
    """A value in the file, where it stands there. file: it names a file of the package."""

    name: str
    value: Any
    allowed: bool
    file: bool


def settings(document: Mapping[str, Any]) -> Iterator[Setting]:
    """Every value in the file, and whether a package may set it."""
    yield from _settings("", document, _DOCUMENT)


def _settings(name: str, value: Any, shape: Shape | None) -> Iterator[Setting]:
    if isinstance(shape, tuple):
        shape = next((each for each in shape if _is_of(each, value)), None)
    if isinstance(shape, _Object) and isinstance(value, dict):
        for key, item in value.items():
            yield from _settings(f"{name}.{key}" if name else key, item, shape.fields.get(key, shape.others))
    elif isinstance(shape, _Providers) and isinstance(value, dict):
        for key, item in value.items():
            options = _PROVIDERS.get(key.lower().removesuffix("executionprovider"))
            yield from _settings(f"{name}.{key}", item, options)
    elif isinstance(shape, _List) and isinstance(value, list):
        for place, item in enumerate(value):
            yield from _settings(f"{name}[{place}]", item, shape.item)
    else:
        # Null is as good as nothing, and where an object belongs its reader complains.
        leaf = None if shape is None or isinstance(shape, (_Object, _List, _Providers, tuple)) else shape
        allowed = value is None or (leaf is not None and leaf(value))
        yield Setting(name, value, allowed, leaf is _file)


def _is_of(shape: Shape, value: Any) -> bool:
    """Whether a shape is one of an object, of a list or of neither, as the value is."""
    return (isinstance(value, dict), isinstance(value, list)) == (isinstance(shape, _Object), isinstance(shape, _List))


# --- values ----------------------------------------------------------------------------------------------------------


def _number(value: Any) -> bool:
    """A number or a flag."""
    return isinstance(value, (bool, int, float))


def _plain(value: Any) -> bool:
    """A text that is taken as it is, or what stands for one."""
    return isinstance(value, (str, bool, int, float))


def _file(value: Any) -> bool:
    return isinstance(value, str) and (not value or stays_inside(value))


def _few(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value <= MOST_BEAMS


def _one_of(*values: str) -> Leaf:
    return lambda value: value in values


def _openvino_properties(value: Any) -> bool:
    """A JSON text of properties by device, not the path of a file with them, which it may also be."""
    try:
        devices = json.loads(value)
        return all(key in _OPENVINO_PROPERTIES for properties in devices.values() for key in properties)
    except (TypeError, ValueError, AttributeError, RecursionError):
        return False


_NUMBERS: Shape = (_List(_number), _number)


def _fields(shape: Shape, names: str) -> dict[str, Shape]:
    return dict.fromkeys(names.split(), shape)


# --- the options of sessions and execution providers -----------------------------------------------------------------

# No paths (caches, profiles, saved contexts, external libraries) and no addresses (streams, allocators, devices).
_OPENVINO_PROPERTIES = frozenset(
    """MAX_PROMPT_LEN MIN_RESPONSE_LEN PREFILL_HINT GENERATE_HINT PERFORMANCE_HINT EXECUTION_MODE_HINT NUM_STREAMS
    INFERENCE_NUM_THREADS INFERENCE_PRECISION_HINT KV_CACHE_PRECISION DYNAMIC_QUANTIZATION_GROUP_SIZE MODEL_PRIORITY
    ENABLE_CPU_PINNING SCHEDULING_CORE_TYPE ENABLE_HYPER_THREADING NPU_TILES NPU_TURBO NPU_QDQ_OPTIMIZATION
    NPU_COMPILER_DYNAMIC_QUANTIZATION NPUW_LLM NPUW_DEVICES NPUW_ONLINE_PIPELINE NPUW_LLM_MAX_PROMPT_LEN
    NPUW_LLM_MIN_RESPONSE_LEN NPUW_LLM_PREFILL_HINT NPUW_LLM_GENERATE_HINT""".split()  # noqa: SIM905 - a table
)
_DEVICE = _Object(_fields(_plain, "hardware_device_type hardware_device_id hardware_vendor_id"))
_CUDA = """device_id gpu_mem_limit arena_extend_strategy cudnn_conv_algo_search cudnn_conv_use_max_workspace
    cudnn_conv1d_pad_to_nc1d do_copy_in_default_stream enable_cuda_graph enable_skip_layer_norm_strict_mode prefer_nhwc
    use_ep_level_unified_stream use_tf32 fuse_conv_bias sdpa_kernel tunable_op_enable tunable_op_tuning_enable
    tunable_op_max_tuning_duration_ms"""
_OPTIONS: dict[str, dict[str, Shape]] = {
    "cpu": {},
    "cuda": _fields(_plain, _CUDA),
    "rocm": _fields(_plain, _CUDA),
    "dml": _fields(
        _plain,
        """device_id device_filter performance_preference disable_metacommands enable_graph_capture
        enable_dynamic_graph_fusion enable_graph_serialization luid""",
    ),
    "webgpu": _fields(
        _plain,
        """preferredLayout enableGraphCapture validationMode dawnBackendType powerPreference storageBufferCacheMode
        uniformBufferCacheMode queryResolveBufferCacheMode defaultBufferCacheMode preserveDevice enableInt64
        multiRotaryCacheConcatOffset""",
    ),
    "openvino": {
        **_fields(
            _plain,
            """device_type device_id device_luid precision num_of_threads num_streams enable_opencl_throttling
            disable_dynamic_shapes model_priority layout reshape_input enable_causallm enable_qdq_optimizer""",
        ),
        "load_config": _openvino_properties,
    },
    "qnn": {
        **_fields(
            _plain,
            """backend_type device_id soc_model htp_arch htp_performance_mode vtcm_mb rpc_control_latency
            htp_graph_finalization_optimization_mode qnn_context_priority enable_htp_fp16_precision
            enable_htp_weight_sharing offload_graph_io_quantization enable_htp_spill_fill_buffer profiling_level
            enable_htp_shared_memory_allocator extended_udma""",
        ),
        # The runtime's own, by their bare names.
        "backend_path": _one_of(
            *("QnnHtp.dll", "QnnCpu.dll", "QnnGpu.dll", "libQnnHtp.so", "libQnnCpu.so", "libQnnGpu.so")
        ),
    },
    "nvtensorrtrtx": _fields(
        _plain,
        """device_id enable_cuda_graph nv_cuda_graph_enable nv_max_workspace_size nv_max_shared_mem_size
        nv_detailed_build_log nv_profile_min_shapes nv_profile_max_shapes nv_profile_opt_shapes nv_multi_profile_enable
        nv_use_external_data_initializer multi_rotary_cache_concat_offset""",
    ),
    "amdgpu": _fields(_plain, "device_id"),
    "coreml": _fields(
        _plain,
        """ModelFormat MLComputeUnits RequireStaticInputShapes EnableOnSubgraphs SpecializationStrategy
        AllowLowPrecisionAccumulationOnGPU""",
    ),
    "xnnpack": _fields(_plain, "intra_op_num_threads"),
}
_PROVIDERS = {name: _Object({**known, "device_filtering_options": _DEVICE}) for name, known in _OPTIONS.items()}
_SESSION = _Object(
    {
        **_fields(_number, "intra_op_num_threads inter_op_num_threads log_severity_level log_verbosity_level"),
        **_fields(_number, "enable_cpu_mem_arena enable_mem_pattern"),
        **_fields(
            _plain,
            """log_id session.use_env_allocators session.use_device_allocator_for_initializers
            session.intra_op.allow_spinning session.inter_op.allow_spinning session.force_spinning_stop
            session.intra_op_thread_affinities session.dynamic_block_base session.set_denormal_as_zero
            session.disable_prepacking session.disable_quant_qdq session.disable_double_qdq_remover
            session.enable_quant_qdq_cleanup session.qdqisint8allowed session.x64quantprecision
            session.disable_aot_function_inlining session.disable_cpu_ep_fallback session.strict_shape_type_inference
            session.allow_released_opsets_only mlas.enable_gemm_fastmath_arm64_bfloat16
            mlas.use_lut_gemm mlas.disable_kleidiai ep.share_ep_contexts ep.stop_share_ep_contexts
            ep.context_node_name_prefix optimization.enable_gelu_approximation
            optimization.enable_cast_chain_elimination optimization.disable_specified_optimizers""",
        ),
        "graph_optimization_level": _one_of(
            "ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL"
        ),
        "provider_options": _List(_Providers()),
    }
)
_RUN = _Object(
    _fields(
        _plain,
        """memory.enable_memory_arena_shrinkage disable_synchronize_execution_providers gpu_graph_id
        qnn.htp_perf_mode qnn.htp_perf_mode_post_run qnn.rpc_control_latency ep.dynamic.workload_type""",
    )
)

# --- models ----------------------------------------------------------------------------------------------------------

_TENSORS = _Object({}, others=_plain)
_TENSOR_LIST = _List(_plain)
_OF_ANY_MODEL: dict[str, Shape] = {
    "filename": _file,
    "session_options": _SESSION,
    "run_options": _RUN,
    "inputs": (_TENSORS, _TENSOR_LIST),
    "outputs": (_TENSORS, _TENSOR_LIST),
}
_STAGES = _Object({}, others=_Object({**_OF_ANY_MODEL, "output_names_forwarder": _TENSORS}, others=_number))
_INITIALIZERS = _List(
    _Object({**_fields(_plain, "name offset length"), "data_file": _file, "shape": _NUMBERS}, others=_number)
)
_PART = _Object(
    {
        **_OF_ANY_MODEL,
        "config_filename": _file,
        "adapter_filename": _file,
        "main_hidden_states": _plain,
        "layer_types": _List(_plain),
        "sliding_window": _Object({"alignment": _plain}, others=_NUMBERS),
        "shared_initializers": _INITIALIZERS,
        "pipeline": (_STAGES, _List(_STAGES)),
    },
    others=_number,
)
_PARTS = "encoder decoder encoder_decoder_init draft embedding vision speech joiner vad mtp"
_DOCUMENT = _Object(
    {
        "model": _Object({"type": _plain, **_fields(_PART, _PARTS)}, others=_NUMBERS),
        "search": _Object(_fields(_few, "num_beams num_return_sequences batch_size"), others=_number),
        "engine": _Object(_fields(_Object({}, others=_number), "dynamic_batching static_batching")),
        "speculative": _Object({}, others=_number),
    }
)
