"""ONNX models on disk: proof that a folder holds one, and FP32 weights stored as FP16.

For the latter each weight gets a Cast to FP32 behind it. ONNX Runtime folds the casts when it opens the model, so
the file is half as long and speed and memory are FP32's. Norm vectors, biases and the rotary caches stay FP32:
they are small, and rounding them gains nothing.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeship.errors import BuilderFailed, EdgeshipError, PrecisionUnsupported
from edgeship.package import genai_config
from edgeship.package.genai_config import GenaiConfig
from edgeship.progress import Progress, silent
from edgeship.system import machine, telemetry
from edgeship.system.json_file import Complaint

RUN_BYTES = 300_000_000
"""What a model's first run takes besides its weights: two times those, four times where FP16 ones are widened."""
MIN_ELEMENTS = 1024
_log = logging.getLogger("edgeship.builder")
_READERS = {"Conv", "Gather", "Gemm", "MatMul", "Transpose"}
_FP16_MAX = 65504.0


def find_fault(folder: Path) -> str | None:
    """What keeps a folder from being a model, or None: files missing, empty or unreadable, or weights cut off."""
    for name in ("model.onnx", "model.onnx.data", genai_config.FILE_NAME):
        path = folder / name
        if not path.is_file() or path.stat().st_size == 0:
            return f"{name} is missing or empty"
    try:
        config = genai_config.read(folder, Complaint(BuilderFailed, "Build it again."))
    except BuilderFailed as error:
        return error.what
    if config.model_file != "model.onnx":
        return f"genai_config.json names {config.model_file!r} as the model"
    return _graph_fault(folder)


def _graph_fault(folder: Path) -> str | None:
    import onnx_ir

    try:
        graph = onnx_ir.load(folder / "model.onnx").graph
    except Exception as error:
        return f"model.onnx cannot be parsed ({type(error).__name__}: {error})"
    if "logits" not in [output.name for output in graph.outputs]:
        return "model.onnx has no output called logits"
    data_bytes = (folder / "model.onnx.data").stat().st_size
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if not isinstance(tensor, onnx_ir.ExternalTensor):
            continue
        if (tensor.offset or 0) + (tensor.length or 0) > data_bytes:
            return f"model.onnx.data ends before {name}"
    return None


def save(model: Any, folder: Path) -> None:
    """Writes an onnx_ir model as model.onnx; its weights lie in the data file already."""
    import onnx_ir

    onnx_ir.save(model, folder / "model.onnx")


def require_answers(folder: Path) -> None:
    """Runs model.onnx on one token, without optimizing its graph, which takes time.

    Where memory is short, as when a large model is built on a small machine, it is opened only.
    Raises BuilderFailed where that gives no numbers, and what ONNX Runtime raises for a graph that it cannot open.
    """
    onnxruntime = _runtime()
    widened, packed, mixed = _stored(folder)
    runs = RUN_BYTES + (4 if widened else 2) * (folder / "model.onnx.data").stat().st_size
    fits = runs < machine.this_machine().memory_available_bytes
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Packed weights are multiplied as they are; others are mapped from the file, and need no copy for one token. Nor do
    # those of experts, most of which the token never meets: copies would take twice what the file does.
    options.add_session_config_entry("session.disable_prepacking", str(int(mixed or not (fits and packed))))
    options.enable_cpu_mem_arena = False  # a model that answers once need not keep what it had for that
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    if not fits:
        _log.info("%s was opened and not run: that would take %d bytes of memory", folder, runs)
        return
    config = genai_config.read(folder, Complaint(BuilderFailed, "Build it again."))
    try:
        feeds = {value.name: _first_token(value, config) for value in session.get_inputs()}
        [logits] = session.run(["logits"], feeds)
    except Exception as error:  # whatever the library raises
        raise BuilderFailed(f"the model that was made does not run: {error}", where=str(folder)) from error
    require_numbers(logits, folder)


def require_numbers(logits: Any, folder: Path) -> None:
    """Raises BuilderFailed where an answer is none: NaN, infinity, or not a number for each token."""
    import numpy as np

    vocabulary = genai_config.read(folder, Complaint(BuilderFailed, "Build it again.")).vocab_size
    if logits.shape[-1] != vocabulary:
        raise BuilderFailed(
            f"the model that was made tells {logits.shape[-1]} of {vocabulary} tokens", where=str(folder)
        )
    if not np.isfinite(logits).all():
        raise BuilderFailed(
            "the model that was made answers with NaN or infinity",
            hint="Check that the checkpoint itself answers, with its adapter if it has one: the training may have gone "
            "wrong, or the adapter's lora_alpha be too large.",
        )


def _stored(folder: Path) -> tuple[bool, bool, bool]:
    """Whether weights are in FP16 to be widened, whether they are packed in blocks, and whether some are experts'."""
    import onnx_ir

    graph = onnx_ir.load(folder / "model.onnx").graph
    operators = {node.op_type for node in graph}
    packed = "MatMulNBits" in operators
    halves = any(value.dtype == onnx_ir.DataType.FLOAT16 for value in graph.initializers.values())
    return halves and not packed, packed, not operators.isdisjoint({"MoE", "QMoE"})


def _first_token(value: Any, config: GenaiConfig) -> Any:
    """What an input is when the first token of a text is read: one of everything, and no keys and values before it."""
    import numpy as np

    kinds = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float16)": np.float16}
    usual = [1] * len(value.shape)
    if value.name in [past for past, _ in config.cache_names]:
        _, heads, head_size = config.cache_shape
        usual = [1, heads, 0, head_size]
    sizes = [size if isinstance(size, int) else other for size, other in zip(value.shape, usual, strict=True)]
    fill = np.ones if "mask" in value.name else np.zeros
    return fill(sizes, kinds.get(value.type, np.float32))


def _runtime() -> Any:
    telemetry.switch_off()
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


class Runner:
    """A decoder in ONNX Runtime that reads whole sequences, each from its beginning."""

    def __init__(self, folder: Path, threads: int) -> None:
        import numpy as np

        onnxruntime = _runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self._past = {
            value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), dtype=np.float32)
            for value in self._session.get_inputs()
            if value.name.startswith("past_key_values.")
        }

    def run(self, tokens: Sequence[int], outputs: Sequence[str], **inputs: Any) -> list[Any]:
        """The named outputs, each an array, for one sequence of token ids. inputs: what the graph takes besides."""
        import numpy as np

        ids = np.asarray([tokens], dtype=np.int64)
        return self.feed(outputs, input_ids=ids, attention_mask=np.ones_like(ids), **self._past, **inputs)

    def feed(self, outputs: Sequence[str], **inputs: Any) -> list[Any]:
        """The named outputs for these inputs."""
        found: list[Any] = self._session.run(list(outputs), inputs)
        return found


def halve(source: Path, folder: Path, progress: Progress = silent) -> None:
    """Writes the model of `source` into `folder` with FP16 weights, and copies every other file.

    One weight at a time is in memory. Raises PrecisionUnsupported naming a weight beyond FP16's range.
    """
    for path in source.iterdir():
        if path.is_file() and path.name not in ("model.onnx", "model.onnx.data", "step.json"):
            shutil.copy2(path, folder / path.name)
    try:
        _halve_model(source, folder, progress)
    except (EdgeshipError, OSError):
        raise
    except Exception as error:
        raise BuilderFailed(
            f"the FP32 model could not be rewritten: {type(error).__name__}: {error}", where=str(source)
        ) from error
    fault = find_fault(folder)
    if fault is not None:
        raise BuilderFailed(f"storing the weights in FP16 left no usable model: {fault}", where=str(folder))


def _halve_model(source: Path, folder: Path, progress: Progress) -> None:
    import onnx_ir

    model = onnx_ir.load(source / "model.onnx")
    weights = [value for value in model.graph.initializers.values() if _is_weight(value)]
    casts = [_store_half(value) for value in weights]
    first = next(iter(model.graph))
    model.graph.insert_before(first, casts)
    written = 0

    def tell(tensor: Any, info: Any) -> None:
        nonlocal written
        del tensor
        written += 1
        progress("halve: writing weights", written / max(1, info.total))

    onnx_ir.save(model, folder / "model.onnx", external_data="model.onnx.data", size_threshold_bytes=0, callback=tell)


def _is_weight(value: Any) -> bool:
    import onnx_ir

    tensor = value.const_value
    readers = {node.op_type for node in value.consumers()}
    return bool(
        tensor is not None
        and tensor.dtype == onnx_ir.DataType.FLOAT
        and len(tensor.shape) >= 2
        and tensor.size >= MIN_ELEMENTS
        and readers
        and readers <= _READERS
    )


def _store_half(value: Any) -> Any:
    """Makes the initializer FP16 and returns the one Cast that all its readers now share."""
    import onnx_ir

    wide = value.const_value
    output = onnx_ir.Value(name=f"{value.name}.fp32", shape=wide.shape, type=onnx_ir.TensorType(wide.dtype))
    cast = onnx_ir.node(
        "Cast",
        inputs=[value],
        attributes={"to": onnx_ir.DataType.FLOAT.value},
        outputs=[output],
        name=f"{value.name}.cast",
    )
    for reader, index in list(value.uses()):
        if reader is not cast:
            reader.replace_input_with(index, output)
    value.const_value = onnx_ir.LazyTensor(
        lambda: _rounded(wide, value.name), dtype=onnx_ir.DataType.FLOAT16, shape=wide.shape, name=value.name
    )
    value.dtype = onnx_ir.DataType.FLOAT16
    return cast


def _rounded(wide: Any, name: str) -> Any:
    import numpy as np
    import onnx_ir

    values = wide.numpy()
    largest = float(np.abs(values).max())
    if not largest <= _FP16_MAX:
        raise PrecisionUnsupported(
            f"FP16 cannot hold the weight {name}: its largest value is {largest:g}, above {_FP16_MAX:g}",
            hint="Build fp32, int8 or int4 instead.",
        )
    return onnx_ir.Tensor(values.astype(np.float16), name=name)
