"""A checkpoint's weight files: which they are, and what tensors they hold together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeship.checkpoint import safetensors_file
from edgeship.checkpoint.packed import Tensor
from edgeship.checkpoint.safetensors_file import StoredTensor
from edgeship.errors import CheckpointInvalid, PickleRefused, WeightsDamaged
from edgeship.package import genai_config
from edgeship.package.manifest import MANIFEST_NAME
from edgeship.system import foreign, json_file
from edgeship.system.fields import shown
from edgeship.system.json_file import Complaint

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE_SINGLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
GGUF = "A GGUF file is converted for llama.cpp already. Give the Hugging Face folder it was made from."
_SHARD = re.compile(r".*-(?P<number>[0-9]{1,6})-of-(?P<total>[0-9]{1,6})\.safetensors", re.ASCII)
_MOST_SHARDS, _MOST_NAMED = 10_000, 5
_NOT_WEIGHTS = ("training_args", "optimizer", "scheduler", "rng_state", "scaler", "trainer_state")
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I8": "int8",
    "U8": "uint8",
    "I32": "int32",
}
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class WeightFiles:
    """Files in a fixed order, and their tensors by name; no tensors are known where the files are pickles."""

    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor]
    pickle: bool

    @property
    def size_bytes(self) -> int:
        """All files."""
        return sum(path.stat().st_size for path in self.files)

    def dtype(self, declared: str | None) -> str:
        """The type that most bytes have; `declared`, or float32, for pickles."""
        if self.pickle:
            return declared or "float32"
        sizes: Counter[str] = Counter()
        for tensor in self.tensors.values():
            sizes[tensor.dtype] += tensor.nbytes
        most = sizes.most_common(1)[0][0]
        return _DTYPES.get(most, most.lower())

    def parameters(self, *, tied: bool, dtype: str) -> int:
        """Trained numbers, tied ones once; for pickles an estimate from the files' size and `dtype`."""
        if self.pickle:
            return self.size_bytes // _BYTES.get(dtype, 4)
        return sum(
            tensor.count
            for name, tensor in self.tensors.items()
            if not is_buffer(name) and not (tied and name == "lm_head.weight")
        )


def is_buffer(name: str) -> bool:
    """True for tensors that old checkpoints store but nobody trained."""
    return name.endswith((".inv_freq", ".masked_bias", ".attn.bias"))


def find_weights(folder: Path, *, allow_pickle: bool = False) -> WeightFiles:
    """The weights of a checkpoint folder: one safetensors file, or the shards that an index lists.

    Raises WeightsDamaged, CheckpointInvalid where there are none, PickleRefused where there are only pickles.
    """
    files, weight_map = _listed(folder, SINGLE, INDEX)
    if files:
        weights = WeightFiles(files, _merge(folder, files, weight_map), pickle=False)
        if not weights.tensors:
            raise WeightsDamaged("the weight files hold no tensors", where=str(folder), hint=_COPY_AGAIN)
        return weights
    shards = sorted(path.name for path in folder.glob("*-of-*.safetensors"))
    if shards:
        raise WeightsDamaged(
            f"{INDEX} is missing, which says what {_some(shards)} hold{_gaps(shards)}",
            where=str(folder),
            hint=_COPY_AGAIN,
        )
    pickles = pickle_names(path.name for path in folder.iterdir())
    if not pickles:
        raise CheckpointInvalid(
            f"there are no weights ({SINGLE} or {INDEX}); {what_it_holds(folder)}",
            where=str(folder),
            hint=foreign_hint(folder),
        )
    if not allow_pickle:
        raise refuse_pickle(pickles, str(folder))
    files, _ = _listed(folder, PICKLE_SINGLE, PICKLE_INDEX)
    if not files:
        raise CheckpointInvalid(
            f"{', '.join(pickles)} cannot be read: only {PICKLE_SINGLE} and its shards can",
            where=str(folder),
            hint="Save the model with transformers' save_pretrained.",
        )
    return WeightFiles(files, {}, pickle=True)


def pickle_names(names: Iterable[str]) -> list[str]:
    """Those of the file names that are weights in pickles, sorted."""
    return sorted(
        name for name in names if name.endswith((".bin", ".pt", ".pth")) and not name.startswith(_NOT_WEIGHTS)
    )


def refuse_pickle(names: list[str], where: str) -> PickleRefused:
    """The error for weights that are only there as pickles."""
    return PickleRefused(
        f"the weights are pickle files ({', '.join(names[:3])}), which can run any code when they are read",
        where=where,
        hint="Save them as safetensors, or pass --allow-pickle if you trust who made them.",
    )


def what_it_holds(folder: Path) -> str:
    """'it holds a, b, c' for an error message."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    if not names:
        return "it is empty"
    return f"it holds {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def foreign_hint(folder: Path) -> str:
    """What to try with a folder that is no checkpoint, judged by what lies in it."""
    names = [path.name for path in folder.iterdir()]
    inner = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if inner:
        return f"Did you mean {folder / inner[-1]}?"
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    if weights and "config.json" in names:
        return f"Is {weights[0]} the weights? Then call it {SINGLE}, or save the model with save_pretrained."
    if any(name.endswith(".gguf") for name in names):
        return GGUF
    if any(name.endswith(".nemo") for name in names):
        return "Export the .nemo file to a Hugging Face folder with NeMo first."
    if any(name.endswith(".onnx") or name in (genai_config.FILE_NAME, MANIFEST_NAME) for name in names):
        return "This folder holds an ONNX model, built already. Give the checkpoint it was built from."
    if "params.json" in names:
        return "This is not the Hugging Face layout. Convert it with transformers first."
    return "A checkpoint is a folder with config.json, tokenizer.json and *.safetensors, as transformers saves it."


def _listed(folder: Path, single: str, index: str) -> tuple[tuple[Path, ...], dict[str, str]]:
    """The files that exist as one or as shards, and the index's map of tensor to file."""
    if (folder / single).is_file():
        return (folder / single,), {}
    if not (folder / index).is_file():
        return (), {}
    listed = json_file.read_fields(folder / index, Complaint(WeightsDamaged, _COPY_AGAIN)).part("weight_map")
    weight_map = {tensor: listed.required_text(tensor) for tensor in listed.values}
    if not weight_map:
        raise WeightsDamaged(f"{index} has no weight_map", where=str(folder / index), hint=_COPY_AGAIN)
    names = sorted(set(weight_map.values()))
    for name in names:
        if "/" in name or not foreign.stays_inside(name):
            raise CheckpointInvalid(
                f"{index} names {shown(name)}, which is no file of this folder",
                where=str(folder),
                hint=_COPY_AGAIN,
            )
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise WeightsDamaged(
            f"{_some(missing)} {are} missing, of {len(names)} that {index} lists", where=str(folder), hint=_COPY_AGAIN
        )
    return tuple(folder / name for name in names), weight_map


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _gaps(shards: Sequence[str]) -> str:
    """Which of the shards are not there either, by the numbers in their names."""
    found = [match for name in shards if (match := _SHARD.fullmatch(name))]
    total = max((int(match["total"]) for match in found), default=0)
    absent = sorted(set(range(1, min(total, _MOST_SHARDS) + 1)) - {int(match["number"]) for match in found})
    return f"; shard number {_some([str(number) for number in absent])} of {total} is missing too" if absent else ""


def _merge(folder: Path, files: tuple[Path, ...], weight_map: Mapping[str, str]) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for path in files:
        for name, tensor in safetensors_file.read_header(path).items():
            if name in tensors:
                raise WeightsDamaged(
                    f"tensor {name} is there twice: in {tensors[name].path.name} and in {path.name}",
                    where=str(folder),
                    hint=_COPY_AGAIN,
                )
            tensors[name] = tensor
    for name, file in weight_map.items():
        if name not in tensors or tensors[name].path.name != file:
            raise WeightsDamaged(
                f"tensor {name} is not in {file}, where {INDEX} says it is",
                where=str(folder),
                hint=_COPY_AGAIN,
            )
    return tensors


_COPY_AGAIN = "Copy or download the checkpoint again."
