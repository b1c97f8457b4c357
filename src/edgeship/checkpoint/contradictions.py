"""What config.json says twice, and otherwise each time: refused by name, since either could be what was trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edgeship.errors import CheckpointInvalid
from edgeship.system.fields import Fields, shown

ROPE_TYPES = {"su": "longrope"}
"""Older names of types of rotary positions."""
_ALSO_INSIDE = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")


def refuse_contradictions(text: Fields, where: str) -> None:
    """Looks at the part of config.json that describes the language model. Raises CheckpointInvalid with both values."""
    dtypes = [text.text(key) for key in ("dtype", "torch_dtype")]
    if None not in dtypes and dtypes[0] != dtypes[1]:
        raise _contradiction(
            f"dtype {shown(dtypes[0])} and torch_dtype {shown(dtypes[1])}",
            where,
            "Take torch_dtype out, the older name.",
        )
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
        _compare(text, scaling, parameters, where)


def rope_parts(text: Fields) -> Iterator[Fields]:
    """Every object that says how positions are rotated for the layers with full attention, an older place first."""
    yield text.part("rope_scaling")
    yield rope_part(text, "full_attention")


def rope_part(text: Fields, kind: str) -> Fields:
    """rope_parameters for one kind of layers; for those with a window empty where it does not tell them apart."""
    parameters = text.part("rope_parameters")
    if any(isinstance(value, dict) for value in parameters.values.values()):
        return parameters.part(kind)
    return parameters if kind == "full_attention" else Fields({}, text.refuse, parameters.name)


def rope_type(rope: Fields) -> str:
    """How positions are scaled, by its newer name. Raises CheckpointInvalid where the older field says otherwise."""
    named = [ROPE_TYPES.get(name, name) for key in ("rope_type", "type") if (name := rope.text(key)) is not None]
    if len(set(named)) > 1:
        raise rope.refuse(f"has {rope.name}rope_type {shown(named[0])} and {rope.name}type {shown(named[1])}")
    return named[0] if named else "default"


def _compare(text: Fields, scaling: Fields, parameters: Fields, where: str) -> None:
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


def _contradiction(what: str, where: str, hint: str) -> CheckpointInvalid:
    return CheckpointInvalid(f"config.json says two things: {what}", where=where, hint=hint)
