"""A LoRA adapter merged into its base, tensor by tensor, without PyTorch.

The merged checkpoint is FP32 even where the base is not: LoRA was trained as an addition in higher precision,
and rounding the sum to bfloat16 would make another model than the one that was trained. Few matrices are in memory
at once.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship import json_file
from edgeship.checkpoint import adapter as adapters
from edgeship.checkpoint import safetensors_file
from edgeship.checkpoint.adapter import Adapter, LoraPair
from edgeship.checkpoint.safetensors_file import StoredTensor
from edgeship.errors import AdapterInvalid, CheckpointInvalid, PickleRefused
from edgeship.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.checkpoint import Checkpoint

FLOATS = ("F16", "BF16", "F32", "F64")
_COPIED = (".json", ".jinja", ".model", ".txt")
# Ways to begin training that leave the base as it was; the others (PiSSA, OLoRA, LoftQ, ...) change it.
_HARMLESS_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
_UNMERGEABLE = (
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "lora_bias",
)


@dataclass(frozen=True)
class Change:
    """What to add to one weight: scale * B @ A, or its transpose for layers that store [in, out]."""

    a: StoredTensor
    b: StoredTensor
    scale: float
    transposed: bool

    def added_to(self, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The merged weight, in the shape of `weight`."""
        delta = safetensors_file.read_float32(self.b) @ safetensors_file.read_float32(self.a)
        delta *= self.scale
        weight += delta.T if self.transposed else delta
        return weight


def merge(checkpoint: Checkpoint, folder: Path, progress: Progress = silent) -> None:
    """Writes base + adapter as a float32 checkpoint: model.safetensors, config.json, the tokenizer's files.

    Raises AdapterInvalid for what cannot be merged yet, naming the field, and for an adapter of another base.
    """
    adapter = checkpoint.adapter
    if adapter is None:
        raise ValueError("there is no adapter to merge")
    if checkpoint.pickle:
        raise PickleRefused(
            "an adapter can be merged into safetensors weights only",
            where=str(checkpoint.folder),
            hint="Save the base again with save_pretrained, which writes safetensors.",
        )
    check_mergeable(adapter)
    base = checkpoint.tensors
    adapters.check_fits(adapter, {name: tensor.shape for name, tensor in base.items()})
    _copy_beside(checkpoint.folder, folder)
    _write_safetensors(folder / "model.safetensors", tuple(base.values()), _changes(adapter), progress)


def check_mergeable(adapter: Adapter) -> None:
    """Raises AdapterInvalid naming every field that asks for more than plain LoRA."""
    config = adapter.config
    faults = [f"{key} is set" for key in _UNMERGEABLE if config.get(key)]
    if adapter.use_dora:
        faults.append("use_dora is true")
    if config.get("bias", "none") != "none":
        faults.append(f"bias is {config['bias']!r}")
    if config.get("init_lora_weights", True) not in _HARMLESS_STARTS:
        faults.append(f"init_lora_weights is {config['init_lora_weights']!r}, which changes the base")
    pairs = adapters.find_pairs(adapter.tensors, where=str(adapter.folder))
    faults += [f"{pair.module} is an embedding" for pair in pairs if pair.embedding]
    known = {name for pair in pairs for name in (pair.a, pair.b)}
    faults += [f"it holds the tensor {name}" for name in adapter.tensors if name not in known]
    if faults:
        raise AdapterInvalid(
            f"this adapter cannot be merged yet: {'; '.join(faults)}",
            where=str(adapter.folder / adapters.CONFIG_NAME),
            hint="Merge it with peft's merge_and_unload, save the result and give that checkpoint instead.",
        )


def rank_and_scale(adapter: Adapter, module: str) -> tuple[int, float]:
    """Rank and scale of one module; patterns are regular expressions for the end of its name, the first counts."""
    rank = _by_pattern(adapter.config.get("rank_pattern"), module, adapter.rank)
    alpha = _by_pattern(adapter.config.get("alpha_pattern"), module, adapter.alpha)
    return rank, alpha / (math.sqrt(rank) if adapter.use_rslora else rank)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _changes(adapter: Adapter) -> dict[str, Change]:
    """What to add, by the base tensor's name."""
    stored = safetensors_file.read_header(adapter.folder / adapters.WEIGHTS_NAME)
    pairs = adapters.find_pairs(adapter.tensors, where=str(adapter.folder))
    return {pair.weight: _change(adapter, pair, stored) for pair in pairs}


def _change(adapter: Adapter, pair: LoraPair, stored: Mapping[str, StoredTensor]) -> Change:
    a, b = stored[pair.a], stored[pair.b]
    rank, scale = rank_and_scale(adapter, pair.module)
    if a.shape[0] != rank or b.shape[1] != rank:
        raise AdapterInvalid(
            f"{pair.a} is {list(a.shape)}, but {adapters.CONFIG_NAME} gives {pair.module} the rank {rank}",
            where=str(adapter.folder),
            hint="Take adapter_config.json and adapter_model.safetensors from the same training run.",
        )
    return Change(a, b, scale, bool(adapter.config.get("fan_in_fan_out")))


def _copy_beside(source: Path, folder: Path) -> None:
    """Everything but the weights; config.json says float32."""
    for path in sorted(source.iterdir()):
        if path.is_file() and path.suffix in _COPIED and not path.name.endswith(".index.json"):
            shutil.copyfile(path, folder / path.name)
    config = json_file.read_object(source / "config.json", CheckpointInvalid)
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    if isinstance(config.get("text_config"), dict):
        config["text_config"] = config["text_config"] | {"dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _write_safetensors(
    path: Path, tensors: Sequence[StoredTensor], changes: Mapping[str, Change], progress: Progress
) -> None:
    """One file; floats as float32, other types as they are. The header can come first: all shapes are known."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in tensors:
        wide = tensor.dtype in FLOATS
        size = 4 * tensor.count if wide else tensor.nbytes
        header[tensor.name] = {
            "dtype": "F32" if wide else tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for index, tensor in enumerate(tensors):
            stream.write(_merged(tensor, changes.get(tensor.name)))
            progress("merge: writing weights", (index + 1) / len(tensors))


def _merged(tensor: StoredTensor, change: Change | None) -> memoryview:
    import numpy as np

    if tensor.dtype not in FLOATS:
        return np.ascontiguousarray(safetensors_file.raw_bits(tensor)).reshape(-1).view(np.uint8).data
    values = safetensors_file.read_float32(tensor)
    if change is not None:
        values = change.added_to(values)
    return np.ascontiguousarray(values, dtype="<f4").reshape(-1).view(np.uint8).data
