"""What config.json says of a model's shape, and whether it agrees with itself and with the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeship.checkpoint.families import UNIFORM, find_family
from edgeship.checkpoint.traits import Traits
from edgeship.errors import CheckpointInvalid
from edgeship.system.fields import LARGEST, Fields
from edgeship.system.json_file import Complaint, fields_of

DAMAGED = Complaint(CheckpointInvalid, "Copy the file again from where the checkpoint came.")
"""Of a JSON file of a checkpoint that cannot be read."""
Shapes = Mapping[str, tuple[int, ...]]

_NAMES = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "vocab_size": ("vocab_size",),
    "context_tokens": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx"),
}
# No model comes near; what is larger is damage, and would be memory and time.
_MOST = {"hidden_size": 1 << 20, "layers": 10_000, "heads": 1 << 16, "head_size": 1 << 14}
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "tok_embeddings.weight")
_LAYER = re.compile(r"(layers|h|blocks)\.([0-9]{1,9})\.(.+)")


@dataclass(frozen=True)
class Dimensions:
    """Sizes of a decoder.

    layers: those that read text. skipped: numbers, in the names of tensors, of layers between them that do not.
    mlp_size: None where config.json does not give one number.
    beyond_vocabulary: rows that the embedding has after those of the vocabulary.
    """

    model_type: str
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    mlp_size: int | None
    vocab_size: int
    context_tokens: int
    skipped: frozenset[int] = frozenset()
    beyond_vocabulary: int = 0

    @property
    def stored_layers(self) -> tuple[int, ...]:
        """The number in the names of tensors of each layer."""
        every = range(self.layers + len(self.skipped))
        return tuple(number for number in every if number not in self.skipped)


def config_fields(config: Mapping[str, Any], path: Path) -> Fields:
    """The fields of the config.json at `path`, which holds `config`."""
    return fields_of(config, path, DAMAGED)


def text_part(config: Fields) -> Fields:
    """The part of a config that describes the language model; multimodal ones nest it."""
    nested = config.part("text_config")
    return nested if nested.values else config


def read_dimensions(config: Fields) -> Dimensions:
    """The sizes in config.json. Raises CheckpointInvalid: all that are missing, or one that is wrong, by name."""
    text, traits = _with_defaults(config)
    found = {key: _first_count(text, names, _MOST.get(key, LARGEST)) for key, names in _NAMES.items()}
    missing = [_NAMES[key][0] for key, number in found.items() if number is None]
    if missing:
        raise text.refuse(f"lacks a whole number for {', '.join(missing)}")
    sizes = {key: number for key, number in found.items() if number is not None}
    skipped = _read_skipped(text, sizes["layers"]) if traits is not None and traits.looks_between else frozenset()
    sizes["layers"] -= len(skipped)
    kv_heads = text.count("num_key_value_heads", most=_MOST["heads"]) or sizes["heads"]
    dimensions = Dimensions(
        model_type=text.text("model_type") or config.text("model_type") or "",
        kv_heads=kv_heads,
        head_size=_head_size(text, sizes["hidden_size"], sizes["heads"]),
        mlp_size=_mlp_size(text),
        skipped=skipped,
        beyond_vocabulary=0 if traits is None else traits.beyond_vocabulary,
        **sizes,
    )
    _check_layer_types(text, dimensions.layers)
    if sizes["heads"] % kv_heads:
        raise text.refuse(
            f"has {text.name}num_attention_heads {sizes['heads']}, "
            f"which is no multiple of {text.name}num_key_value_heads {kv_heads}"
        )
    return dimensions


def _with_defaults(config: Fields) -> tuple[Fields, Traits | None]:
    """The part that describes the language model, with what transformers assumes of its family where it is silent."""
    text, family = text_part(config), find_family(config.values) if config.items("architectures") else None
    if family is None:
        return text, None
    return replace(text, values={**family.traits.defaults, **text.values}), family.traits


def _read_skipped(text: Fields, layers: int) -> frozenset[int]:
    """The layers that look at pictures. Those beyond the last one are none, as in transformers."""
    found = {number for number in text.ids("cross_attention_layers") if number < layers}
    if len(found) == layers:
        raise text.refuse(f"has {text.name}cross_attention_layers with all {layers} layers, so that none reads text")
    return frozenset(found)


def _head_size(text: Fields, hidden: int, heads: int) -> int:
    stated = text.count("head_dim", most=_MOST["head_size"])
    if stated is None and hidden % heads:
        raise text.refuse(
            f"has no {text.name}head_dim, and {text.name}hidden_size {hidden} is no multiple of {heads} heads"
        )
    return stated or hidden // heads


def _mlp_size(text: Fields) -> int | None:
    """None also where each layer has its own, as a list of them says."""
    stated = text.values.get("intermediate_size")
    return None if isinstance(stated, list) else text.count("intermediate_size")


def _check_layer_types(text: Fields, layers: int) -> None:
    if text.values.get("layer_types") is not None and len(text.texts("layer_types")) != layers:
        raise text.refuse(
            f"has {text.name}layer_types for {len(text.texts('layer_types'))} layers, "
            f"and says that there are {layers} layers"
        )


def is_tied(config: Fields, tensor_names: Mapping[str, Any]) -> bool:
    """Whether the output layer is the embedding.

    Configs leave the field out where it is the architecture's default; then what is stored decides.
    """
    for part in (config, text_part(config)):
        stated = part.flag("tie_word_embeddings")
        if stated is not None:
            return stated
    return bool(tensor_names) and not any(name.endswith("lm_head.weight") for name in tensor_names)


def check_shapes(shapes: Shapes, dimensions: Dimensions, *, tied: bool, extra_layers: int, where: str) -> None:
    """Compares the weights with config.json. `extra_layers`: stored beyond num_hidden_layers on purpose.

    Raises CheckpointInvalid that names the tensor: an embedding of other sizes, layers missing or too many, and
    for the usual decoders a layer's tensor that is missing or of another shape.
    """
    embedding = find_embedding(shapes)
    if embedding is None:
        return
    rows = dimensions.vocab_size + dimensions.beyond_vocabulary
    _expect(embedding, shapes[embedding], (rows, dimensions.hidden_size), where)
    if embedding == "model.embed_tokens.weight" and not tied and "lm_head.weight" not in shapes:
        raise CheckpointInvalid(
            "tensor lm_head.weight is missing, though config.json says tie_word_embeddings false",
            where=where,
            hint="Set tie_word_embeddings to true if the model was trained so, or save it again.",
        )
    if not tied and "lm_head.weight" in shapes:
        by = "config.json makes it" if dimensions.beyond_vocabulary else f"{embedding} is"
        output = (dimensions.vocab_size, dimensions.hidden_size)
        _expect("lm_head.weight", shapes["lm_head.weight"], output, where, by)
    prefix = embedding[: -len(next(suffix for suffix in _EMBEDDINGS if embedding.endswith(suffix)))]
    layers, stem = _layers(shapes, prefix)
    _check_count(set(layers), dimensions, extra_layers, stem, where)
    if dimensions.model_type in UNIFORM:
        _check_layers(layers, dimensions, stem, where)


def _check_count(found: set[int], dimensions: Dimensions, extra: int, stem: str, where: str) -> None:
    end = dimensions.layers + len(dimensions.skipped)
    missing = next((index for index in dimensions.stored_layers if index not in found), None)
    surplus = min((index for index in found if index >= end + extra), default=None)
    if missing is not None or surplus is not None:
        also = f"the weights also hold {stem}{surplus}"
        fault = also if missing is None else f"{stem}{missing} is missing"
        raise CheckpointInvalid(f"config.json says {end} layers, but {fault}", where=where, hint=_OTHER_MODEL)


def _check_layers(layers: Mapping[int, Shapes], dimensions: Dimensions, stem: str, where: str) -> None:
    every = {name for tensors in layers.values() for name in tensors}
    expected = _layer_shapes(dimensions)
    for index, tensors in sorted(layers.items()):
        for name in sorted(every):
            full_name = f"{stem}{index}.{name}"
            if name not in tensors:
                raise CheckpointInvalid(
                    f"tensor {full_name} is missing, which other layers have",
                    where=where,
                    hint="Save the checkpoint again; transformers would fill the gap with random numbers.",
                )
            if name in expected:
                _expect(full_name, tensors[name], expected[name], where)


def _layer_shapes(dimensions: Dimensions) -> dict[str, tuple[int, ...]]:
    hidden = dimensions.hidden_size
    queries, keys = dimensions.heads * dimensions.head_size, dimensions.kv_heads * dimensions.head_size
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "self_attn.qkv_proj.weight": (queries + 2 * keys, hidden),
        "input_layernorm.weight": (hidden,),
    }
    if dimensions.mlp_size is not None:
        mlp = dimensions.mlp_size
        shapes |= {
            "mlp.gate_proj.weight": (mlp, hidden),
            "mlp.up_proj.weight": (mlp, hidden),
            "mlp.gate_up_proj.weight": (2 * mlp, hidden),
            "mlp.down_proj.weight": (hidden, mlp),
        }
    return shapes


def _layers(shapes: Shapes, prefix: str) -> tuple[dict[int, dict[str, tuple[int, ...]]], str]:
    layers: dict[int, dict[str, tuple[int, ...]]] = {}
    stem = f"{prefix}layers."
    for name, shape in shapes.items():
        match = _LAYER.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if match:
            stem = f"{prefix}{match[1]}."
            if not match[3].endswith("rotary_emb.inv_freq"):
                layers.setdefault(int(match[2]), {})[match[3]] = shape
    return layers, stem


def find_embedding(shapes: Shapes) -> str | None:
    """The name of the embedding; None where no tensor is called like one."""
    names = [name for name in shapes for suffix in _EMBEDDINGS if name == suffix or name.endswith(f".{suffix}")]
    # The language model's own embedding has the shortest name; towers for other senses nest theirs deeper.
    return min(names, key=len, default=None)


def _expect(
    name: str, shape: tuple[int, ...], expected: tuple[int, ...], where: str, by: str = "config.json makes it"
) -> None:
    if shape != expected:
        raise CheckpointInvalid(
            f"tensor {name} is {list(shape)}, but {by} {list(expected)}",
            where=where,
            hint=_OTHER_MODEL,
        )


def _first_count(config: Fields, names: tuple[str, ...], most: int) -> int | None:
    for name in names:
        value = config.count(name, most=most)
        if value is not None:
            return value
    return None


_OTHER_MODEL = "config.json and the weights are of different models: take both from the same one."
