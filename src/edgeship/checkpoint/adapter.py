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
    read_bias,
    read_named,
    read_tokens,
    refuse_parameters,
)
from edgeship.checkpoint.dimensions import find_embedding
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
    "pair": r"lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?",
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


@dataclass(frozen=True)
class Change:
    """What becomes of one tensor of the base, in the order of the fields, which name tensors of the adapter.

    replacement: takes the tensor's place. own: for this module alone (modules_to_save), not for one tied to it.
    pair: scale * B @ A is added. magnitude: then each output is brought to this length (DoRA).
    added: scale times this vector is added to a bias.
    token_rows: take the place of the rows `tokens`.
    """

    replacement: str | None = None
    own: bool = False
    pair: LoraPair | None = None
    scale: float = 1.0
    magnitude: str | None = None
    added: str | None = None
    token_rows: str | None = None
    tokens: tuple[int, ...] = ()


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
    complaint = Complaint(AdapterInvalid, _TRAIN_AGAIN)
    require_readable(folder, complaint)
    config = json_file.read_fields(folder / CONFIG_NAME, complaint)
    rank, alpha = _read_rank(config, str(folder / CONFIG_NAME))
    refuse_parameters(config, str(folder / CONFIG_NAME), MERGE_YOURSELF)
    named = read_named(config)
    rank_pattern = [(matches, ranks.required_count(key)) for matches, ranks, key in _patterns(config, "rank_pattern")]
    stored = _read_tensors(folder)
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    pairs = find_pairs(shapes, where=str(folder / WEIGHTS_NAME))
    if not pairs:
        raise AdapterInvalid("the adapter holds no LoRA matrices", where=str(folder / WEIGHTS_NAME), hint=_TRAIN_AGAIN)
    _check_named(pairs, named, str(folder / WEIGHTS_NAME))
    _check_ranks(pairs, shapes, None if rank_pattern else rank, str(folder / WEIGHTS_NAME))
    _check_changes_something(pairs, stored, str(folder / WEIGHTS_NAME))
    return Adapter(
        folder=folder,
        rank=rank,
        alpha=alpha,
        base=config.text("base_model_name_or_path") or None,
        targets=tuple(sorted({pair.module.rpartition(".")[2] for pair in pairs})),
        named=named,
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
        raise _refuse(adapter, f"all that it changes is left out of a text model: {dropped[0]}", _TRAIN_TEXT)
    kept = {name: shape for name, shape in adapter.tensors.items() if name not in set(dropped)}
    told = f"{len(dropped)} of the adapter's {len(adapter.tensors)} tensors change what is left out: {dropped[0]}"
    return replace(adapter, tensors=kept), told


def find_pairs(shapes: Mapping[str, Shape], *, where: str) -> tuple[LoraPair, ...]:
    """The A and B matrices by module, in the tensors' order. Raises AdapterInvalid for a lone one."""
    sides: dict[tuple[str, bool], dict[str, str]] = {}
    for name in shapes:
        kind, match = _parse(name)
        if kind == "pair" and match:
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


def find_changes(adapter: Adapter) -> dict[str, Change]:
    """What the adapter does, by the base's tensor.

    Raises AdapterInvalid for a tensor of no known kind, and for two that take the same place.
    """
    changes: dict[str, Change] = {}
    for pair in find_pairs(adapter.tensors, where=str(adapter.folder)):
        changes[pair.weight] = Change(pair=pair, scale=rank_and_scale(adapter, pair.module)[1])
    for name in adapter.tensors:
        kind, match = _parse(name)
        if match is None or (kind == "spare" and _PREFIX + match["module"] + match["spare"] not in adapter.tensors):
            raise _refuse(adapter, f"it holds the tensor {name}, which nothing here can merge", MERGE_YOURSELF)
        if kind in ("pair", "spare"):
            continue  # a spare is the base's own, or repeats what stands under the module's name
        module = match["module"]
        parameter = {"added": "bias", "replacement": match.groupdict().get("parameter")}.get(kind, "weight")
        target = f"{module}.{parameter}"
        change = changes.get(target, Change())
        if getattr(change, kind) is not None:
            raise _refuse(adapter, f"{getattr(change, kind)} and {name} both take the place of {target}", _TRAIN_AGAIN)
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
        raise _refuse(adapter, f"trainable_token_indices gives no list of token ids for {module}", _TRAIN_AGAIN)
    return rows


def rank_and_scale(adapter: Adapter, module: str) -> tuple[int, float]:
    """Rank and scale of one module."""
    rank = _by_pattern(adapter.rank_pattern, module, adapter.rank)
    alpha = _by_pattern(adapter.alpha_pattern, module, adapter.alpha)
    return rank, alpha / (math.sqrt(rank) if adapter.use_rslora else rank)


def _by_pattern(patterns: Sequence[tuple[Matches, _Number]], module: str, default: _Number) -> _Number:
    return next((value for matches, value in patterns if matches(module)), default)


def check_fits(adapter: Adapter, base: Mapping[str, Shape], *, tied: bool = False) -> dict[str, Shape]:
    """Compares the adapter with the shapes of a base's tensors; returns the shapes of those it changes, afterwards.

    The embedding and the output layer may get another number of rows. tied: the base's output layer is its embedding,
    which lm_head.weight then means as well.
    Raises AdapterInvalid naming the tensor and both shapes, or the module that the base lacks.
    """
    embedding = find_embedding(base)
    known = dict(base)
    if tied and embedding is not None:
        known[HEAD] = base[embedding]
    tables = [name for name in (embedding, HEAD) if name in known]
    changes = find_changes(adapter)
    for target, change in changes.items():
        if target not in known:
            raise _not_stored(adapter, target, known)
        if change.replacement:
            new, old = adapter.tensors[change.replacement], known[target]
            if new != old and not (target in tables and new[1:] == old[1:]):
                raise _another_base(adapter, f"{change.replacement} is {list(new)}, but {target} is {list(old)}")
    _check_complete(adapter, changes, known)
    after = {name: known[name] for name in changes} | _replaced(adapter, changes, tables, tied=tied)
    for target, change in changes.items():
        _check_change(adapter, change, target, after[target])
    rows = {name: after.get(name, known[name])[0] for name in tables}
    if len({count - known[name][0] for name, count in rows.items()}) > 1:
        told = " and ".join(f"{name} {count} rows" for name, count in rows.items())
        raise _refuse(adapter, f"the adapter resizes the vocabulary, but leaves {told}", _SAVE_EMBEDDINGS)
    return after


def _not_stored(adapter: Adapter, target: str, known: Mapping[str, Shape]) -> AdapterInvalid:
    experts, inside, _ = target.partition(".experts.")
    stack = next((name for name in known if inside and name.startswith(experts + inside) and len(known[name]) > 2), "")
    if not stack:
        return _another_base(adapter, f"it changes {target}, which this one does not store")
    what = f"it was trained on one of a mixture's experts, {target}, and the base stores all of them in {stack}"
    return _refuse(adapter, what, MERGE_YOURSELF)


def _replaced(
    adapter: Adapter, changes: Mapping[str, Change], tables: Sequence[str], *, tied: bool
) -> dict[str, Shape]:
    """The shapes of tensors that are replaced. What replaces one of two tied tables replaces the other with it."""
    shapes = {target: adapter.tensors[change.replacement] for target, change in changes.items() if change.replacement}
    if tied:
        for table in [name for name in tables if name in shapes and not changes[name].own]:
            shapes = dict.fromkeys(tables, shapes[table]) | shapes
    return shapes


def _check_complete(adapter: Adapter, changes: Mapping[str, Change], known: Mapping[str, Shape]) -> None:
    """Whether the adapter holds all that its config speaks of. A missing matrix of a pair is found elsewhere."""
    saved = tuple(f"{module}.weight" for module in adapter.saved)
    lacking = [
        f"modules_to_save names {name.removesuffix('.weight')}, but the adapter does not hold it"
        for name in known
        if name.endswith(saved)
        if name not in changes or changes[name].replacement is None
    ]
    if adapter.lora_bias:
        biases = {change.pair.module: f"{change.pair.module}.bias" for change in changes.values() if change.pair}
        lacking += [
            f"lora_bias is true, but {module} has no lora_B.bias"
            for module, bias in biases.items()
            if changes.get(bias, Change()).added is None
        ]
    if adapter.tokens and not any(change.token_rows for change in changes.values()):
        lacking.append("trainable_token_indices is set, but the rows of these tokens are not in the adapter")
    if lacking:
        raise _refuse(adapter, lacking[0], _TRAIN_AGAIN)


def stores_inputs_first(adapter: Adapter, pair: LoraPair, shape: Shape) -> bool:
    """Whether a weight of this shape is [in, out]: embeddings, and the layers that fan_in_fan_out speaks of."""
    made = adapter.tensors[pair.b][0], adapter.tensors[pair.a][1]
    return pair.embedding or (adapter.fan_in_fan_out and shape == made[::-1])


def _check_change(adapter: Adapter, change: Change, target: str, shape: Shape) -> None:
    """Compares the shapes of what is added to one tensor with that of the tensor."""
    tensors = adapter.tensors
    outputs = shape[0]
    if change.pair:
        made: Shape = (tensors[change.pair.b][0], tensors[change.pair.a][1])
        transposed = stores_inputs_first(adapter, change.pair, shape)
        outputs = made[0]
        rank, _ = rank_and_scale(adapter, change.pair.module)
        if tensors[change.pair.a][0] != rank:
            fault = f"{list(tensors[change.pair.a])}, but {CONFIG_NAME} gives {change.pair.module} the rank {rank}"
            raise _refuse(adapter, f"{change.pair.a} is {fault}", _SAME_RUN)
        if (made[::-1] if transposed else made) != shape:
            raise _another_base(
                adapter,
                f"{change.pair.a} and its lora_B make {list(made[::-1] if transposed else made)}, "
                f"but {target} is {list(shape)}",
            )
    if bool(change.magnitude) != (adapter.use_dora and change.pair is not None):
        fault = f"it holds {change.magnitude}" if change.magnitude else f"{target} has no lora_magnitude_vector"
        said = str(adapter.use_dora).lower()
        raise _refuse(adapter, f"{CONFIG_NAME} says use_dora {said}, but {fault}", _SAME_RUN)
    wanted = {
        change.magnitude: (outputs,),
        change.added: shape,
        change.token_rows: (len(change.tokens), *shape[1:]),
    }
    for name, expected in wanted.items():
        if name is not None and tensors[name] != expected:
            raise _another_base(adapter, f"{name} is {list(tensors[name])}, but {target} makes it {list(expected)}")
    if change.tokens and max(change.tokens) >= shape[0]:
        fault = f"trainable_token_indices names the token {max(change.tokens)}, but {target} has {shape[0]} rows"
        raise _another_base(adapter, fault)


def _parse(name: str) -> tuple[str, re.Match[str] | None]:
    """The kind of a tensor and its name's parts; no match for a name that is of no kind."""
    if name.startswith(_PREFIX):
        inside = usual_module(name.removeprefix(_PREFIX))
        for kind, pattern in _NAMES.items():
            match = pattern.fullmatch(inside)
            if match:
                return kind, None if _WRAPPERS.search(match["module"]) else match
    return "", None


def _another_base(adapter: Adapter, what: str) -> AdapterInvalid:
    hint = f"The adapter was trained on {adapter.base}." if adapter.base else "Give the base it was trained on."
    return _refuse(adapter, f"the adapter is of another base: {what}", hint)


def _refuse(adapter: Adapter, what: str, hint: str) -> AdapterInvalid:
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
    for pair in pairs:
        wrapped = pair.a.removeprefix(_PREFIX).rpartition(".lora_")[0]
        if named and not named(wrapped) and not named(pair.module):
            what = f"{CONFIG_NAME} does not name {pair.module} (target_modules, exclude_modules, layers_to_transform)"
            raise AdapterInvalid(f"it holds {pair.a}, but {what}", where=where, hint=_SAME_RUN)


def _check_ranks(pairs: tuple[LoraPair, ...], shapes: Mapping[str, Shape], rank: int | None, where: str) -> None:
    """Compares the shapes of each pair. rank: of all of them, None where each may have its own."""
    for pair in pairs:
        a, b = shapes[pair.a], shapes[pair.b]
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise AdapterInvalid(
                f"{pair.a} {list(a)} and its lora_B {list(b)} do not multiply", where=where, hint=_TRAIN_AGAIN
            )
        if rank is not None and a[0] != rank:
            raise AdapterInvalid(
                f"{pair.a} is {list(a)}, but {CONFIG_NAME} says r {rank}",
                where=where,
                hint=_SAME_RUN,
            )


def _check_changes_something(pairs: tuple[LoraPair, ...], stored: Mapping[str, StoredTensor], where: str) -> None:
    if len(stored) > 2 * len(pairs):
        return  # it also holds lengths, biases, token rows or whole modules
    # Training begins with zeros on one side: in B, or in an embedding's A.
    if not any(_is_filled(stored[pair.b]) and _is_filled(stored[pair.a]) for pair in pairs):
        raise AdapterInvalid(
            "the adapter changes nothing: lora_A or lora_B is zero in every module", where=where, hint=_TRAIN_AGAIN
        )


def _is_filled(tensor: StoredTensor) -> bool:
    return bool(safetensors_file.read_float32(tensor).any())


_TRAIN_AGAIN = "Save the adapter again after training it."
_SAME_RUN = "Take adapter_config.json and adapter_model.safetensors from the same training run."
_TRAIN_TEXT = "Train the modules of the text model."
_SAVE_EMBEDDINGS = 'Both must be in the adapter: train it with modules_to_save=["embed_tokens", "lm_head"].'
MERGE_YOURSELF = "Merge it with peft's merge_and_unload, save the result and give that checkpoint instead."
