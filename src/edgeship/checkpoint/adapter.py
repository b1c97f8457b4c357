"""A LoRA adapter: what it changes, and whether it belongs to a base."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from edgeship.checkpoint import safetensors_file
from edgeship.checkpoint.adapter_modules import (
    Matches,
    bounded_match,
    parameters_of,
    read_bias,
    read_named,
    read_parameters,
    read_tokens,
)
from edgeship.checkpoint.folder import require_readable
from edgeship.checkpoint.safetensors_file import StoredTensor
from edgeship.checkpoint.tensor_names import usual_module
from edgeship.errors import AdapterInvalid, NotFound, PickleRefused
from edgeship.system import foreign, json_file
from edgeship.system.fields import Fields, shown
from edgeship.system.json_file import Complaint

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
PICKLE_NAME = "adapter_model.bin"
HEAD = "lm_head.weight"
_PREFIX = "base_model.model."
# What a tensor's name ends with, after the module's own name; the first that matches counts.
_KINDS = {
    "pair": r"(?P<nested>(?:base_layer\.)*)lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?",
    "added": r"lora_B\.bias",
    "magnitude": r"lora_magnitude_vector(?:\.weight)?",
    "token_rows": r"token_adapter\.trainable_tokens_delta",
    "spare": r"(?:original_module|modules_to_save)(?P<spare>\.weight|\.bias)",
    "replacement": r"(?P<wrapped>(?:token_adapter\.)?base_layer\.)?(?P<parameter>weight|bias)",
}
_NAMES = {kind: re.compile(rf"(?P<module>.+?)\.{end}") for kind, end in _KINDS.items()}
_MOST_PATTERNS = 10_000
_WRAPPERS = re.compile(r"lora_|base_layer|token_adapter|original_module|modules_to_save")

Shape = tuple[int, ...]
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as peft saves one.

    base: what adapter_config.json names as its base.
    targets: last parts of the modules that the tensors really change, e.g. "q_proj".
    named: whether the config names a module; None where that cannot be told. bias: which biases were trained.
    rank_pattern, alpha_pattern: ranks and alphas of modules by the end of their names, the first that matches counts.
    parameters: ends of the names of parameters that were trained by themselves, as those of all experts of a layer are.
    saved: last parts of the modules that are in it as a whole. tokens: rows of the embedding that were trained, or
    those of each module by the end of its name.
    tensors: shape of every tensor by name: "base_model.model." + the base's module + ".lora_A.weight".
    """

    folder: Path
    rank: int
    alpha: float
    base: str | None
    targets: tuple[str, ...]
    named: Matches | None
    parameters: tuple[str, ...]
    bias: str
    use_rslora: bool
    use_dora: bool
    lora_bias: bool
    fan_in_fan_out: bool
    rank_pattern: Sequence[tuple[Matches, int]]
    alpha_pattern: Sequence[tuple[Matches, float]]
    saved: tuple[str, ...]
    tokens: tuple[int, ...] | Mapping[str, tuple[int, ...]]
    config: Mapping[str, Any]
    tensors: Mapping[str, Shape]

    @property
    def files(self) -> tuple[Path, Path]:
        """The two files that make the adapter: its config and its weights."""
        return self.folder / CONFIG_NAME, self.folder / WEIGHTS_NAME


@dataclass(frozen=True)
class LoraPair:
    """The two matrices that change one module: W + scale * B @ A, or its transpose where `embedding`.

    a: [rank, in], b: [out, rank]. parameter: the one of the module that was trained by itself, which may hold the
    matrices of several experts (see `ExpertPair`); None for a module.
    """

    module: str
    a: str
    b: str
    embedding: bool
    parameter: str | None = None

    @property
    def weight(self) -> str:
        """The base's tensor that it changes."""
        return f"{self.module}.{self.parameter or 'weight'}"

    @property
    def trained(self) -> str:
        """What was trained, as the patterns of the config name it."""
        return self.module if self.parameter is None else self.weight


@dataclass(frozen=True)
class ExpertPair:
    """What LoRA adds to one of the matrices that a tensor holds: scale * B @ A, of which `pair` may have several.

    matrix: which one of the tensor. outputs: the first of its outputs that are changed, and the one after the last.
    expert: which of the pair's, of so many `experts`: it has rank rows of A in a row, and every so many-th column of B.
    first: the output of the pair that is added to the first of `outputs`. swapped: A has the outputs, and B the inputs.
    """

    pair: LoraPair
    scale: float
    matrix: int
    outputs: tuple[int, int]
    expert: int = 0
    experts: int = 1
    first: int = 0
    swapped: bool = False


@dataclass(frozen=True)
class ExpertChange:
    """What is added to the matrices of a tensor. outputs: of each. inputs_first: each is stored [in, out]."""

    outputs: int
    inputs_first: bool
    pairs: tuple[ExpertPair, ...]


@dataclass(frozen=True)
class Change:
    """What becomes of one tensor of the base, in the order of the fields, which name tensors of the adapter.

    replacement: takes the tensor's place. own: for this module alone (modules_to_save), not for one tied to it.
    pair: scale * B @ A is added. magnitude: then each output is brought to this length (DoRA).
    added: scale times this vector is added to a bias.
    token_rows: take the place of the rows `tokens`. experts: what is added to the matrices that it holds.
    """

    replacement: str | None = None
    own: bool = False
    pair: LoraPair | None = None
    scale: float = 1.0
    magnitude: str | None = None
    added: str | None = None
    token_rows: str | None = None
    tokens: tuple[int, ...] = ()
    experts: ExpertChange | None = None

    @property
    def pairs(self) -> Iterator[LoraPair]:
        """All that it is made of."""
        if self.pair is not None:
            yield self.pair
        if self.experts is not None:
            yield from (each.pair for each in self.experts.pairs)


def open_adapter(folder: Path) -> Adapter:
    """Reads and checks an adapter folder.

    Raises NotFound, AdapterInvalid, PickleRefused, WeightsDamaged.
    """
    if not foreign.is_folder(folder):
        raise NotFound(
            f"there is no adapter folder {str(folder)!r}",
            where=str(folder),
            hint="Give a folder, or a Hub id like org/name.",
        )
    if not (folder / CONFIG_NAME).is_file():
        raise AdapterInvalid(
            f"there is no {CONFIG_NAME}",
            where=str(folder),
            hint="Give the folder that peft's save_pretrained wrote.",
        )
    if (folder / "adapters.safetensors").is_file() and not (folder / WEIGHTS_NAME).is_file():
        raise AdapterInvalid(
            "this is an adapter of MLX-LM, which keeps it otherwise than peft",
            where=str(folder),
            hint=f"Merge it there, mlx_lm.fuse --model BASE --adapter-path {folder} --save-path FUSED --dequantize, "
            "and give FUSED as the checkpoint.",
        )
    complaint = Complaint(AdapterInvalid, TRAIN_AGAIN)
    require_readable(folder, complaint)
    config = json_file.read_fields(folder / CONFIG_NAME, complaint)
    rank, alpha = _read_rank(config, str(folder / CONFIG_NAME))
    named, parameters = read_named(config), read_parameters(config)
    rank_pattern = [(matches, ranks.required_count(key)) for matches, ranks, key in _patterns(config, "rank_pattern")]
    stored = _read_tensors(folder)
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    pairs = find_pairs(shapes, parameters, where=str(folder / WEIGHTS_NAME))
    if not pairs:
        raise AdapterInvalid("the adapter holds no LoRA matrices", where=str(folder / WEIGHTS_NAME), hint=TRAIN_AGAIN)
    _check_named(pairs, named, str(folder / WEIGHTS_NAME))
    _check_ranks(pairs, shapes, None if rank_pattern else rank, str(folder / WEIGHTS_NAME))
    _check_changes_something(pairs, stored, str(folder / WEIGHTS_NAME))
    return Adapter(
        folder=folder,
        rank=rank,
        alpha=alpha,
        base=config.text("base_model_name_or_path") or None,
        targets=tuple(sorted({pair.trained.removesuffix(".weight").rpartition(".")[2] for pair in pairs})),
        named=named,
        parameters=parameters,
        bias=read_bias(config),
        use_rslora=bool(config.flag("use_rslora")),
        use_dora=bool(config.flag("use_dora")),
        lora_bias=bool(config.flag("lora_bias")),
        fan_in_fan_out=bool(config.flag("fan_in_fan_out")),
        rank_pattern=rank_pattern,
        alpha_pattern=[
            (matches, alphas.required_number(key)) for matches, alphas, key in _patterns(config, "alpha_pattern")
        ],
        saved=tuple(config.texts("modules_to_save")),
        tokens=read_tokens(config),
        config=config.values,
        tensors=shapes,
    )


def _patterns(config: Fields, key: str) -> Iterator[tuple[Matches, Fields, str]]:
    """What each regular expression of a field matches, with the object and the key that hold its value."""
    part = config.part(key)
    if len(part.values) > _MOST_PATTERNS:
        found = f"{len(part.values)} regular expressions"
        raise config.refuse(f"has {key} with {found}, and at most {_MOST_PATTERNS} are read")
    for pattern in part.values:
        matches = bounded_match(rf"(.*\.)?({pattern})")
        if matches is None:
            raise config.wrong(key, pattern, "a regular expression that can be matched in a bounded time")
        yield matches, part, pattern


def leave_out(adapter: Adapter, left: Collection[str]) -> tuple[Adapter, str]:
    """The adapter without what it holds for tensors of the base that are left out, and that in words; "" for nothing.

    left: their names, as `usual_module` makes them. Raises AdapterInvalid where nothing else is in it.
    """
    # transformers 5 put a `model.` before the towers too, which weights on the Hub lack.
    modules = {name.rpartition(".")[0].removeprefix("model.") for name in left}
    found = {name: match["module"].removeprefix("model.") for name in adapter.tensors if (match := _parse(name)[1])}
    dropped = [name for name, module in found.items() if module in modules]
    if not dropped:
        return adapter, ""
    if len(dropped) == len(adapter.tensors):
        raise refuse(adapter, f"all that it changes is left out of a text model: {dropped[0]}", _TRAIN_TEXT)
    kept = {name: shape for name, shape in adapter.tensors.items() if name not in set(dropped)}
    told = f"{len(dropped)} of the adapter's {len(adapter.tensors)} tensors change what is left out: {dropped[0]}"
    return replace(adapter, tensors=kept), told


def find_pairs(shapes: Mapping[str, Shape], parameters: Collection[str] = (), *, where: str) -> tuple[LoraPair, ...]:
    """The A and B matrices by module, in the tensors' order.

    parameters: ends of the names of those that were trained by themselves. Of several of one module, peft nests them.
    Raises AdapterInvalid for a lone matrix, for one that is there twice, and where the parameters are others than those
    that are named.
    """
    sides: dict[tuple[str, bool], dict[str, dict[str, str]]] = {}
    for name in shapes:
        kind, match = _parse(name)
        if kind == "pair" and match:
            wrappers = sides.setdefault((match["module"], bool(match["embedding"])), {})
            found = wrappers.setdefault(match["nested"], {})
            if other := found.get(match["side"]):
                raise AdapterInvalid(f"{other} and {name} are the same matrix", where=where, hint=TRAIN_AGAIN)
            found[match["side"]] = name
    pairs = []
    for (module, wide), wrappers in sides.items():
        for found in wrappers.values():
            if len(found) == 1:
                side, name = next(iter(found.items()))
                raise AdapterInvalid(
                    f"tensor {name} has no lora_{'B' if side == 'A' else 'A'} beside it",
                    where=where,
                    hint=TRAIN_AGAIN,
                )
        inner_first = sorted(wrappers, key=len, reverse=True)
        trained = _trained_parameters(module, wrappers, parameters, where)
        for nested, parameter in zip(inner_first, trained, strict=True):
            pairs.append(LoraPair(module, wrappers[nested]["A"], wrappers[nested]["B"], wide, parameter))
    return tuple(pairs)


def _trained_parameters(
    module: str, wrappers: Mapping[str, Mapping[str, str]], parameters: Collection[str], where: str
) -> Sequence[str | None]:
    """The parameters of a module that its pairs are of; None for the module itself."""
    name = next(iter(wrappers.values()))["A"]
    wrapped = name.removeprefix(_PREFIX).rpartition(".lora_")[0]
    found = parameters_of((module, wrapped.replace(".base_layer", "")), parameters)
    if not found and list(wrappers) == [""]:
        return [None]
    if len(found) != len(wrappers):
        told = " and ".join(found) or "none"
        what = f"{CONFIG_NAME} names {told} of {module} in target_parameters, and it holds {len(wrappers)}: {name}"
        raise AdapterInvalid(what, where=where, hint=SAME_RUN)
    if missing := {"base_layer." * depth for depth in range(len(wrappers))} - set(wrappers):
        lacking = f"{_PREFIX}{wrapped.replace('.base_layer', '')}.{min(missing, key=len)}lora_A.weight"
        raise AdapterInvalid(f"it holds {name}, and not {lacking}", where=where, hint=TRAIN_AGAIN)
    return found


def find_changes(adapter: Adapter) -> dict[str, Change]:
    """What the adapter does, by the base's tensor.

    Raises AdapterInvalid for a tensor of no known kind, and for two that take the same place.
    """
    changes: dict[str, Change] = {}
    for pair in find_pairs(adapter.tensors, adapter.parameters, where=str(adapter.folder)):
        other = changes.setdefault(pair.weight, Change(pair=pair, scale=rank_and_scale(adapter, pair.trained)[1])).pair
        if other is not None and other != pair:
            raise refuse(adapter, f"{other.a} and {pair.a} both change {pair.weight}", TRAIN_AGAIN)
    for name in adapter.tensors:
        kind, match = _parse(name)
        if match is None or (kind == "spare" and _PREFIX + match["module"] + match["spare"] not in adapter.tensors):
            raise refuse(adapter, f"it holds the tensor {name}, which nothing here can merge", MERGE_YOURSELF)
        if kind in ("pair", "spare"):
            continue  # a spare is the base's own, or repeats what stands under the module's name
        module = match["module"]
        parameter = {"added": "bias", "replacement": match.groupdict().get("parameter")}.get(kind, "weight")
        target = f"{module}.{parameter}"
        change = changes.get(target, Change())
        if getattr(change, kind) is not None:
            raise refuse(adapter, f"{getattr(change, kind)} and {name} both take the place of {target}", TRAIN_AGAIN)
        details = {kind: name, **_details(adapter, kind, module, match)}
        changes[target] = replace(change, **details)
    return changes


def _details(adapter: Adapter, kind: str, module: str, match: re.Match[str]) -> dict[str, Any]:
    if kind == "added":
        return {"scale": rank_and_scale(adapter, module)[1]}
    if kind == "token_rows":
        return {"tokens": _trained_tokens(adapter, module)}
    if kind == "replacement" and not match["wrapped"]:
        return {"own": module.endswith(adapter.saved)}
    return {}


def _trained_tokens(adapter: Adapter, module: str) -> tuple[int, ...]:
    """The rows that trainable_token_indices gives for a module; tied ones share those of the embedding."""
    if isinstance(adapter.tokens, tuple):
        rows = adapter.tokens
    else:
        named = [rows for name, rows in adapter.tokens.items() if module.endswith(name)]
        rows = named[0] if named else next(iter(adapter.tokens.values()), ())
    if not rows:
        raise refuse(adapter, f"trainable_token_indices gives no list of token ids for {module}", TRAIN_AGAIN)
    return rows


def rank_and_scale(adapter: Adapter, trained: str) -> tuple[int, float]:
    """Rank and scale of one module or parameter."""
    rank = _by_pattern(adapter.rank_pattern, trained, adapter.rank)
    alpha = _by_pattern(adapter.alpha_pattern, trained, adapter.alpha)
    return rank, alpha / (math.sqrt(rank) if adapter.use_rslora else rank)


def _by_pattern(patterns: Sequence[tuple[Matches, _Number]], module: str, default: _Number) -> _Number:
    return next((value for matches, value in patterns if matches(module)), default)


def _parse(name: str) -> tuple[str, re.Match[str] | None]:
    """The kind of a tensor and its name's parts; no match for a name that is of no kind."""
    if name.startswith(_PREFIX):
        inside = usual_module(name.removeprefix(_PREFIX))
        for kind, pattern in _NAMES.items():
            match = pattern.fullmatch(inside)
            if match:
                return kind, None if _WRAPPERS.search(match["module"]) else match
    return "", None


def another_base(adapter: Adapter, what: str) -> AdapterInvalid:
    """The error for an adapter that does not fit."""
    hint = f"The adapter was trained on {adapter.base}." if adapter.base else "Give the base it was trained on."
    return refuse(adapter, f"the adapter is of another base: {what}", hint)


def refuse(adapter: Adapter, what: str, hint: str) -> AdapterInvalid:
    """The error for what an adapter holds."""
    return AdapterInvalid(what, where=str(adapter.folder), hint=hint)


def _read_rank(config: Fields, where: str) -> tuple[int, float]:
    kind = config.text("peft_type")
    if kind != "LORA":
        raise AdapterInvalid(
            f"peft_type is {shown(kind)}; only LORA adapters can be merged",
            where=where,
            hint="Merge it with its own library and give the merged checkpoint.",
        )
    return config.required_count("r"), config.required_number("lora_alpha") if "lora_alpha" in config.values else 8.0


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


def _check_named(pairs: tuple[LoraPair, ...], named: Matches | None, where: str) -> None:
    """Whether the config names each module that has a pair, as the adapter calls it or as the base does."""
    for pair in (pair for pair in pairs if pair.parameter is None):
        wrapped = pair.a.removeprefix(_PREFIX).rpartition(".lora_")[0]
        if named and not named(wrapped) and not named(pair.module):
            what = f"{CONFIG_NAME} does not name {pair.module} (target_modules, exclude_modules, layers_to_transform)"
            raise AdapterInvalid(f"it holds {pair.a}, but {what}", where=where, hint=SAME_RUN)


def _check_ranks(pairs: tuple[LoraPair, ...], shapes: Mapping[str, Shape], rank: int | None, where: str) -> None:
    """Compares the shapes of each pair. rank: of all of them, None where each may have its own."""
    for pair in pairs:
        a, b = shapes[pair.a], shapes[pair.b]
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise AdapterInvalid(
                f"{pair.a} {list(a)} and its lora_B {list(b)} do not multiply", where=where, hint=TRAIN_AGAIN
            )
        if rank is not None and pair.parameter is None and a[0] != rank:
            raise AdapterInvalid(
                f"{pair.a} is {list(a)}, but {CONFIG_NAME} says r {rank}",
                where=where,
                hint=SAME_RUN,
            )


def _check_changes_something(pairs: tuple[LoraPair, ...], stored: Mapping[str, StoredTensor], where: str) -> None:
    if len(stored) > 2 * len(pairs):
        return  # it also holds lengths, biases, token rows or whole modules
    # Training begins with zeros on one side: in B, or in an embedding's A.
    if not any(_is_filled(stored[pair.b]) and _is_filled(stored[pair.a]) for pair in pairs):
        raise AdapterInvalid(
            "the adapter changes nothing: lora_A or lora_B is zero in every module", where=where, hint=TRAIN_AGAIN
        )


def _is_filled(tensor: StoredTensor) -> bool:
    return bool(safetensors_file.read_float32(tensor).any())


TRAIN_AGAIN = "Save the adapter again after training it."
SAME_RUN = "Take adapter_config.json and adapter_model.safetensors from the same training run."
_TRAIN_TEXT = "Train the modules of the text model."
MERGE_YOURSELF = "Merge it with peft's merge_and_unload, save the result and give that checkpoint instead."
