"""What config.json says twice, and otherwise each time: refused by name, since either could be what was trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from edgeship.checkpoint.dimensions import text_part
from edgeship.checkpoint.families import find_family, is_wrapped
from edgeship.checkpoint.traits import Family
from edgeship.errors import CheckpointInvalid
from edgeship.system.fields import Fields, shown

LAYER_TYPES = ("full_attention", "sliding_attention")
ROPE_TYPES = {"su": "longrope", "mrope": "default"}
"""Other names of types of rotary positions. In texts the three positions of `mrope` are the same one."""
_ALSO_INSIDE = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")


def refuse_contradictions(config: Fields, where: str) -> None:
    """Raises CheckpointInvalid with both values."""
    text, family = text_part(config), find_family(config.values)
    if family is not None and not is_wrapped(config.values):
        _compare_family(config, text, family, where)
    _compare_dtypes(text, where)
    _compare_ropes(text, where)
    for key, rule, meant in _layers_by_rule(text):
        # A family whose layers go by a rule has a default for it; others do not look at the field.
        if family is not None and rule in family.traits.defaults:
            _compare_layers(text, key, rule, meant, where)


def rope_parts(text: Fields) -> Iterator[Fields]:
    """Every object that says how positions are rotated for the layers with full attention, an older place first."""
    yield text.part("rope_scaling")
    yield rope_part(text, "full_attention")


def rope_part(text: Fields, kind: str) -> Fields:
    """rope_parameters for one kind of layers; for those with a window empty where it does not tell them apart.

    Raises what `text` raises where an object stands in it that is of no kind of layers.
    """
    parameters = text.part("rope_parameters")
    nested = [key for key, value in parameters.values.items() if isinstance(value, dict)]
    if odd := next((key for key in nested if not key.endswith("attention")), None):
        raise parameters.wrong(
            odd, parameters.values[odd], "a number or a text; kinds of layers alone have objects there"
        )
    if nested:
        return parameters.part(kind)
    return parameters if kind == "full_attention" else Fields({}, text.refuse, parameters.name)


def window_pattern(text: Fields) -> int | None:
    """Of so many layers the last sees all tokens; None where that is not told by a number.

    EXAONE 4 writes it as 0 where there are no windows, or as "LLLG" beside the list of layers, which is what counts.
    """
    stated = text.values.get("sliding_window_pattern")
    off = stated == 0 and text.values.get("sliding_window") is None
    return None if off or isinstance(stated, str) else text.count("sliding_window_pattern")


def rope_type(rope: Fields) -> str:
    """How positions are scaled, by its newer name. Raises CheckpointInvalid where the older field says otherwise."""
    named = [ROPE_TYPES.get(name, name) for key in ("rope_type", "type") if (name := rope.text(key)) is not None]
    if len(set(named)) > 1:
        raise rope.refuse(f"has {rope.name}rope_type {shown(named[0])} and {rope.name}type {shown(named[1])}")
    return named[0] if named else "default"


def _compare_family(config: Fields, text: Fields, family: Family, where: str) -> None:
    """Some tools go by the architecture, as we do, and others, as transformers, by the type of model."""
    architecture = config.texts("architectures")[0]
    stated = [name for part in (config, text) if (name := part.text("model_type")) is not None]
    if family.model_type not in stated:
        raise _contradiction(
            f"architectures {shown(architecture)} and model_type {shown(stated[0])}",
            where,
            f"Take both from the model that was fine-tuned: {architecture} has the model_type {family.model_type!r}.",
        )


def _compare_dtypes(text: Fields, where: str) -> None:
    dtypes = [text.text(key) for key in ("dtype", "torch_dtype")]
    if None not in dtypes and dtypes[0] != dtypes[1]:
        raise _contradiction(
            f"dtype {shown(dtypes[0])} and torch_dtype {shown(dtypes[1])}",
            where,
            "Take torch_dtype out, the older name.",
        )


def _compare_ropes(text: Fields, where: str) -> None:
    for rope in rope_parts(text):
        rope_type(rope)
    for key in _ALSO_INSIDE:
        stated = text.number(key)
        for rope in rope_parts(text):
            inside = rope.number(key)
            if None not in (stated, inside) and inside != stated:
                raise _contradiction(
                    f"{text.name}{key} {stated:g} and {rope.name}{key} {inside:g}",
                    where,
                    f"Write the one that the model was trained with into {rope.name}{key}, and take the other out.",
                )
    scaling, parameters = text.part("rope_scaling"), rope_part(text, "full_attention")
    if scaling.values and parameters.values:
        _compare_rope_objects(text, scaling, parameters, where)


def _compare_rope_objects(text: Fields, scaling: Fields, parameters: Fields, where: str) -> None:
    """Of two objects that say how positions are rotated, the second is what transformers 5 reads."""
    older, newer = _normal(scaling), _normal(parameters)
    key = next((key for key in older if key in newer and older[key] != newer[key]), None)
    if key is None:
        return
    meant = {"rope_type": older["rope_type"]} | newer | older
    raise _contradiction(
        f"{scaling.name}{key} {shown(older[key])} and {parameters.name}{key} {shown(newer[key])}",
        where,
        f"Take {text.name}rope_scaling out, and if it is the one that is meant, write "
        f'"rope_parameters": {json.dumps(meant)}',
    )


def _normal(rope: Fields) -> dict[str, Any]:
    plain = {key: value for key, value in rope.values.items() if key != "type" and value is not None}
    return plain | {"rope_type": rope_type(rope)}


def _layers_by_rule(text: Fields) -> Iterator[tuple[str, str, list[object]]]:
    """Lists with an entry for each layer of which other fields give the rule: list, rule, and the rule's entries.

    A rule for windows says nothing where they are switched off.
    """
    kinds, flags = len(text.texts("layer_types")), len(text.items("no_rope_layers"))
    windows = "sliding_window" not in text.values or text.values["sliding_window"] is not None
    pattern, first = window_pattern(text), text.count("max_window_layers", least=0)
    if windows and pattern is not None:
        yield "layer_types", "sliding_window_pattern", [LAYER_TYPES[(at + 1) % pattern != 0] for at in range(kinds)]
    if windows and first is not None and text.flag("use_sliding_window"):
        yield "layer_types", "max_window_layers", [LAYER_TYPES[at >= first] for at in range(kinds)]
    attending = text.count("full_attention_interval")
    if attending is not None:
        kind = ("full_attention", "linear_attention")
        yield "layer_types", "full_attention_interval", [kind[(at + 1) % attending != 0] for at in range(kinds)]
    interval = text.count("no_rope_layer_interval")
    if interval is not None:
        yield "no_rope_layers", "no_rope_layer_interval", [int((at + 1) % interval != 0) for at in range(flags)]


def _compare_layers(text: Fields, key: str, rule: str, meant: Sequence[object], where: str) -> None:
    stated = text.items(key)
    place = next((at for at, pair in enumerate(zip(stated, meant, strict=True)) if pair[0] != pair[1]), None)
    if place is not None:
        by_rule = f"{text.name}{rule} {shown(text.values[rule])}, which makes it {shown(meant[place])}"
        raise _contradiction(
            f"{text.name}{key}[{place}] {shown(stated[place])} and {by_rule}",
            where,
            f"Take {rule} out if the model was trained as the list says, and {key} if not.",
        )


def _contradiction(what: str, where: str, hint: str) -> CheckpointInvalid:
    return CheckpointInvalid(f"config.json says two things: {what}", where=where, hint=hint)
