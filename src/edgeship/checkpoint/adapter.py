"""A LoRA adapter: what it changes, and whether it belongs to a base."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship import json_file
from edgeship.checkpoint import safetensors_file
from edgeship.checkpoint.safetensors_file import StoredTensor
from edgeship.errors import AdapterInvalid, NotFound, PickleRefused

CONFIG_NAME, WEIGHTS_NAME, PICKLE_NAME = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
_PART = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as peft saves one.

    base: what adapter_config.json names as its base.
    targets: last parts of the modules that the tensors really change, e.g. "q_proj".
    tensors: shape of every tensor by name: "base_model.model." + the base's module + ".lora_A.weight".
    """

    folder: Path
    rank: int
    alpha: float
    base: str | None
    targets: tuple[str, ...]
    use_rslora: bool
    use_dora: bool
    config: Mapping[str, Any]
    tensors: Mapping[str, Shape]

    @property
    def files(self) -> tuple[Path, Path]:
        """The two files that make the adapter: its config and its weights."""
        return self.folder / CONFIG_NAME, self.folder / WEIGHTS_NAME


@dataclass(frozen=True)
class LoraPair:
    """The two matrices that change one module: W + scale * B @ A, or its transpose where `embedding`.

    a: [rank, in], b: [out, rank].
    """

    module: str
    a: str
    b: str
    embedding: bool

    @property
    def weight(self) -> str:
        """The base's tensor that it changes."""
        return f"{self.module}.weight"


def open_adapter(folder: Path) -> Adapter:
    """Reads and checks an adapter folder.

    Raises NotFound, AdapterInvalid, PickleRefused, WeightsDamaged.
    """
    if not folder.is_dir():
        raise NotFound(f"there is no adapter folder {str(folder)!r}", where=str(folder), hint="Check --adapter.")
    if not (folder / CONFIG_NAME).is_file():
        raise AdapterInvalid(
            f"there is no {CONFIG_NAME}",
            where=str(folder),
            hint="Give the folder that peft's save_pretrained wrote.",
        )
    config = json_file.read_object(folder / CONFIG_NAME, AdapterInvalid)
    rank, alpha = _read_rank(config, str(folder / CONFIG_NAME))
    stored = _read_tensors(folder)
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    pairs = find_pairs(shapes, where=str(folder / WEIGHTS_NAME))
    if not pairs:
        raise AdapterInvalid("the adapter holds no LoRA matrices", where=str(folder / WEIGHTS_NAME), hint=_TRAIN_AGAIN)
    _check_ranks(pairs, shapes, rank, config, str(folder / WEIGHTS_NAME))
    _check_changes_something(pairs, stored, str(folder / WEIGHTS_NAME))
    base = config.get("base_model_name_or_path")
    return Adapter(
        folder=folder,
        rank=rank,
        alpha=alpha,
        base=base if isinstance(base, str) and base else None,
        targets=tuple(sorted({pair.module.rpartition(".")[2] for pair in pairs})),
        use_rslora=bool(config.get("use_rslora")),
        use_dora=bool(config.get("use_dora")),
        config=config,
        tensors=shapes,
    )


def find_pairs(shapes: Mapping[str, Shape], *, where: str) -> tuple[LoraPair, ...]:
    """The A and B matrices by module, in the tensors' order. Raises AdapterInvalid for a lone one."""
    sides: dict[tuple[str, bool], dict[str, str]] = {}
    for name in shapes:
        match = _PART.fullmatch(name)
        if match:
            sides.setdefault((match["module"], bool(match["embedding"])), {})[match["side"]] = name
    for found in sides.values():
        if len(found) == 1:
            side, name = next(iter(found.items()))
            raise AdapterInvalid(
                f"tensor {name} has no lora_{'B' if side == 'A' else 'A'} beside it",
                where=where,
                hint=_TRAIN_AGAIN,
            )
    return tuple(LoraPair(module, found["A"], found["B"], wide) for (module, wide), found in sides.items())


def check_fits(adapter: Adapter, base: Mapping[str, Shape]) -> None:
    """Compares the adapter with the shapes of a base's tensors.

    Raises AdapterInvalid naming the tensor and both shapes, or the module that the base lacks.
    """
    where = str(adapter.folder)
    hint = f"The adapter was trained on {adapter.base}." if adapter.base else "Give the base it was trained on."
    for pair in find_pairs(adapter.tensors, where=where):
        if pair.weight not in base:
            raise AdapterInvalid(
                f"the adapter is of another base: it changes {pair.weight}, which this one does not store",
                where=where,
                hint=hint,
            )
        made: Shape = (adapter.tensors[pair.b][0], adapter.tensors[pair.a][1])
        if pair.embedding or adapter.config.get("fan_in_fan_out"):
            made = made[::-1]
        if made != base[pair.weight]:
            raise AdapterInvalid(
                f"the adapter is of another base: {pair.a} and its lora_B make {list(made)}, "
                f"but {pair.weight} is {list(base[pair.weight])}",
                where=where,
                hint=hint,
            )


def _read_rank(config: Mapping[str, Any], where: str) -> tuple[int, float]:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterInvalid(
            f"peft_type is {kind!r}; only LORA adapters can be merged",
            where=where,
            hint="Merge it with its own library and give the merged checkpoint.",
        )
    rank, alpha = config.get("r"), config.get("lora_alpha", 8)
    if type(rank) is not int or rank < 1:
        raise AdapterInvalid(f"r must be a whole number of at least 1, not {rank!r}", where=where, hint=_TRAIN_AGAIN)
    if type(alpha) not in (int, float) or not math.isfinite(alpha):
        raise AdapterInvalid(f"lora_alpha must be a number, not {alpha!r}", where=where, hint=_TRAIN_AGAIN)
    return rank, float(alpha)


def _read_tensors(folder: Path) -> dict[str, StoredTensor]:
    if (folder / WEIGHTS_NAME).is_file():
        return safetensors_file.read_header(folder / WEIGHTS_NAME)
    if (folder / PICKLE_NAME).is_file():
        raise PickleRefused(
            f"the adapter's weights are a pickle file ({PICKLE_NAME}), which can run any code when read",
            where=str(folder),
            hint="Save it again with a newer peft, which writes safetensors.",
        )
    raise AdapterInvalid(
        f"there is no {WEIGHTS_NAME}",
        where=str(folder),
        hint="Give the folder that peft's save_pretrained wrote.",
    )


def _check_ranks(
    pairs: tuple[LoraPair, ...], shapes: Mapping[str, Shape], rank: int, config: Mapping[str, Any], where: str
) -> None:
    for pair in pairs:
        a, b = shapes[pair.a], shapes[pair.b]
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise AdapterInvalid(
                f"{pair.a} {list(a)} and its lora_B {list(b)} do not multiply", where=where, hint=_TRAIN_AGAIN
            )
        if a[0] != rank and not config.get("rank_pattern"):
            raise AdapterInvalid(
                f"{pair.a} is {list(a)}, but {CONFIG_NAME} says r {rank}",
                where=where,
                hint="Take both files from the same training run.",
            )


def _check_changes_something(pairs: tuple[LoraPair, ...], stored: Mapping[str, StoredTensor], where: str) -> None:
    if len(stored) > 2 * len(pairs):
        return  # it also replaces whole modules or biases
    if all(not safetensors_file.read_float32(stored[pair.b]).any() for pair in pairs):
        raise AdapterInvalid(
            "the adapter changes nothing: lora_B is zero in every module", where=where, hint=_TRAIN_AGAIN
        )


_TRAIN_AGAIN = "Save the adapter again after training it."
