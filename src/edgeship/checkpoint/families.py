"""The families of models that can be built, one row each: what they are called, who builds them, and what is special.

Whatever config.json or the weights themselves tell is not in it: a layer has a bias where the checkpoint stores one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeship.checkpoint.dense_families import DENSE
from edgeship.checkpoint.mixed_families import MIXED
from edgeship.checkpoint.traits import Family, Traits

# What `genai` and `olive` say was found with a small random model of each family, built in FP32 and INT4: by builder
# 0.18 with transformers 5.23, and in Olive's environment. For Gemma 3 (nested rope_parameters), GPT-OSS and the Granite
# hybrids the builder has code that fails; what it makes of OLMo 1 is off by 3 to 9 % of the logits' range. Phi and
# Nemotron are off by up to 1 %, which `ship` measures and judges. Olive's older builder is off for those three by 0.4
# to 4 % even in FP32, and agrees to seven digits for the others.
FAMILIES: Mapping[str, Family] = {**DENSE, **MIXED}
BY_GENAI = tuple(name for name, family in FAMILIES.items() if family.genai)
BY_OLIVE = tuple(name for name, family in FAMILIES.items() if family.olive)


def _as_text_part(family: Family, text_type: str) -> Family:
    defaults = {**family.traits.defaults, **family.text_types.get(text_type, {})}
    return replace(family, traits=replace(family.traits, defaults=defaults))


_BY_TEXT_TYPE = {
    name: _as_text_part(family, name)
    for family in FAMILIES.values()
    for name in (family.model_type, *family.text_types)
}
UNIFORM = frozenset(name for name, family in _BY_TEXT_TYPE.items() if family.uniform)
# Models that see or hear whose config.json has the fields of the text part beside the others, and not inside; of Qwen's
# that is so in older ones.
_UNNESTED = {
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "phi4_multimodal": "phi4_multimodal",
    "phi4mm": "phi4mm",
}


def find_family(config: Mapping[str, Any]) -> Family | None:
    """The family of what config.json describes, or of its text part; None where none is known."""
    family = FAMILIES.get(config["architectures"][0])
    return family or _BY_TEXT_TYPE.get(_text_type(config) or "")


def find_traits(config: Mapping[str, Any]) -> Traits | None:
    """What is special about that family; None where none is known."""
    family = find_family(config)
    return family.traits if family else None


def is_wrapped(config: Mapping[str, Any]) -> bool:
    """Whether the text model is a part of one that sees or hears as well."""
    return config["architectures"][0] not in FAMILIES and find_family(config) is not None


def _text_type(config: Mapping[str, Any]) -> str | None:
    nested = config.get("text_config")
    stated = nested.get("model_type") if isinstance(nested, dict) and nested else _UNNESTED.get(config["model_type"])
    return stated if isinstance(stated, str) else None
