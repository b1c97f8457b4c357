"""The modules that an adapter's config names, by the rules by which peft wraps a model's when it loads the adapter.

What an adapter holds for other modules, peft leaves out without a word; what it lacks stays as the base has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from edgeship.system.fields import Fields

if TYPE_CHECKING:
    from edgeship.checkpoint.adapter import Adapter, Change

Matches = Callable[[str], bool]
_PLAIN = re.compile(r"[\w.]+")
_EMBEDDING, _HEAD = "model.embed_tokens", "lm_head"
_BIASES = ("none", "all", "lora_only")
# In the order in which modules have them; that is the order in which peft wraps one around the other.
_OF_EXPERTS = ("gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias")
_OF_OTHERS = ("weight", "bias")


def bounded_match(expression: str) -> Matches | None:
    """Whether a regular expression matches a whole text; None where that cannot be told in a bounded time."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        # Its engine takes time in proportion to a text, whatever the expression; Python's may never end.
        return SchemaValidator(core_schema.str_schema(pattern=rf"^(?:{expression})$")).isinstance_python
    except SchemaError:
        return None


def read_named(config: Fields) -> Matches | None:
    """Whether a module is one that the config names; None where the base or an endless search alone could tell.

    That is so without target_modules, with "all-linear", and with expressions that `bounded_match` does not take.
    """
    targets, excluded = _one_or_more(config, "target_modules"), _one_or_more(config, "exclude_modules") or []
    layers, around = _read_layers(config), _one_or_more(config, "layers_pattern")
    restricted = [key for key in ("layers_to_transform", "layers_pattern") if config.values.get(key) is not None]
    if isinstance(targets, str) and restricted:
        raise config.refuse(f"has {restricted[0]}, which needs a list of names in target_modules, not one expression")
    if around and not layers:
        raise config.refuse("has layers_pattern and no layers_to_transform")
    patterns = [around] if isinstance(around, str) else around or []
    if targets is None or targets == "all-linear" or not all(map(_PLAIN.fullmatch, patterns)):
        return None
    wanted, unwanted = _matcher(targets), _matcher(excluded)
    if wanted is None or unwanted is None:
        return None
    # A module that is named in full is one whatever its layer, as lm_head has none.
    whole = () if isinstance(targets, str) else targets

    def named(module: str) -> bool:
        in_layers = not layers or module in whole or _layer_of(module, patterns) in layers
        return wanted(module) and not unwanted(module) and in_layers

    # The output layer that the embedding is tied to gets what the embedding gets.
    tied = bool(config.flag("ensure_weight_tying")) and named(_EMBEDDING)
    return lambda module: named(module) or (tied and module == _HEAD)


def read_parameters(config: Fields) -> tuple[str, ...]:
    """Ends of the names of parameters that were trained by themselves: peft does so with the experts of a mixture."""
    named = _one_or_more(config, "target_parameters") or []
    return (named,) if isinstance(named, str) else tuple(named)


def parameters_of(module: Iterable[str], named: Iterable[str]) -> list[str]:
    """Which of a module's parameters are named, in the order in which peft wraps them. module: what it is called."""
    ends = tuple(f".{name}" for name in named)
    names = [f".{name}" for name in module]
    known = _OF_EXPERTS if any(name.endswith(".experts") for name in names) else _OF_OTHERS
    return [parameter for parameter in known if any(f"{name}.{parameter}".endswith(ends) for name in names)]


def _one_or_more(config: Fields, key: str) -> str | list[str] | None:
    value = config.values.get(key)
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise config.wrong(key, value, "a text or a list of texts")
    return value


def _read_layers(config: Fields) -> set[str]:
    """The numbers in layers_to_transform, as they stand in names; none where all layers are meant."""
    value = config.values.get("layers_to_transform")
    numbers = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(number) is int for number in numbers):
        raise config.wrong("layers_to_transform", value, "a whole number or a list of whole numbers")
    return {str(number) for number in numbers}


def _matcher(names: str | list[str]) -> Matches | None:
    """Whether one of the names ends a module's, or the one expression matches all of it."""
    if isinstance(names, str):
        return bounded_match(names)
    ends = tuple(f".{name}" for name in names)
    return lambda module: f".{module}".endswith(ends)


def _layer_of(module: str, patterns: Iterable[str]) -> str | None:
    """The number of a module's layer, which stands behind one of the patterns, where there are any."""
    parts = module.split(".")
    ends = tuple(f".{pattern}" for pattern in patterns)
    for place in range(1 if ends else 2, len(parts) - 1):
        before = "".join(f".{part}" for part in parts[:place])
        if parts[place].isdecimal() and (not ends or before.endswith(ends)):
            return parts[place]
    return None


def find_gaps(adapter: Adapter, changes: Mapping[str, Change], base: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What the config speaks of and the adapter does not hold, so that it stays as the base has it, in words.

    changes: what the adapter does. base: the shapes of the base's tensors.
    """
    unpaired = [
        name.removesuffix(".weight")
        for name, shape in base.items()
        if adapter.named and name.endswith(".weight") and len(shape) == 2 and name not in changes
        if adapter.named(name.removesuffix(".weight"))
    ]
    modules = {change.pair.module for change in changes.values() if change.pair}
    biases = [
        name
        for name in base
        if name.endswith(".bias") and (name not in changes or changes[name].replacement is None)
        if adapter.bias == "all" or (adapter.bias == "lora_only" and name.removesuffix(".bias") in modules)
    ]
    trained = {f".{pair.weight}" for change in changes.values() for pair in change.pairs}
    unheld = [name for name in adapter.parameters if not any(end.endswith(f".{_in_layers(name)}") for end in trained)]
    return [
        f"{field} in adapter_config.json asks for {_listed(names)}, which the adapter lacks: the base's is taken"
        for field, names in (("target_modules", unpaired), ("target_parameters", unheld), ("bias", biases))
        if names
    ]


def _in_layers(name: str) -> str:
    """The name from the layer's number on, since what stands before the layers may be called otherwise."""
    return name.rpartition("layers.")[2]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def read_bias(config: Fields) -> str:
    """Which biases were trained: none, all, or those of modules with LoRA matrices (lora_only)."""
    return config.text("bias", _BIASES) or "none"


def read_tokens(config: Fields) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
    """The rows of the embedding that were trained, or those of each module by the end of its name."""
    key = "trainable_token_indices"
    if isinstance(config.values.get(key), dict):
        part = config.part(key)
        return {name: tuple(part.ids(name)) for name in part.values}
    config.items(key)
    return config.ids(key)
