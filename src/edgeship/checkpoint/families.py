"""The families of models that can be built, one row each: what they are called, who builds them, and what is special.

Whatever config.json or the weights themselves tell is not in it: a layer has a bias where the checkpoint stores one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Norms = Literal["before", "after", "around"]
Windows = Literal["never", "all layers", "by layer"]


@dataclass(frozen=True)
class Traits:
    """What the streaming builder must know and config.json does not say, or says under another name.

    genai_type: what onnxruntime-genai calls the family.
    norms: of each block's input ("before"), of what it adds ("after"), or both ("around").
    norm_offset: added to every norm's stored weight.
    head_norm: queries and keys are normalised, each "head" by itself or the whole "row".
    fused: queries, keys and values are stored as one matrix, and gate and up as another.
    windows: which layers can have a sliding window.
    scaled_embedding: multiplied by the square root of the model's width.
    query_scalar: the attention's scale is the inverse square root of query_pre_attn_scalar.
    capped_attention: attn_logit_softcapping has effect; Gemma 3's configs may state it, and its code leaves it out.
    partly_rotated: partial_rotary_factor has effect.
    local_theta: layers with a window rotate by frequencies of their own, with this base.
    defaults: what transformers assumes where config.json is silent.
    """

    genai_type: str
    norms: Norms = "before"
    norm_offset: float = 0.0
    head_norm: Literal["head", "row"] | None = None
    fused: bool = False
    windows: Windows = "never"
    scaled_embedding: bool = False
    query_scalar: bool = False
    capped_attention: bool = False
    partly_rotated: bool = False
    local_theta: float | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """A row of the table.

    title: as people call it. model_type: as config.json does.
    uniform: all its layers hold the same tensors, in the shapes that dimensions.py knows.
    genai: onnxruntime-genai's builder makes the right thing of it. olive: Olive does, which runs an older one.
    traits: None where the streaming builder cannot make it.
    """

    title: str
    model_type: str
    uniform: bool = True
    genai: bool = True
    olive: bool = True
    traits: Traits | None = None


_QWEN_WINDOWS = {"sliding_window": 4096, "max_window_layers": 28}
_GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "use_sliding_window": True,
}

# What `genai` and `olive` say was found with a small random model of each family, built in FP32 and INT4: by builder
# 0.18 with transformers 5.23, and in Olive's environment. For Gemma 3 (nested rope_parameters), GPT-OSS and the Granite
# hybrids the builder has code that fails; what it makes of OLMo 1 is off by 3 to 9 % of the logits' range. Phi and
# Nemotron are off by up to 1 %, which `ship` measures and judges. Olive's older builder is off for those three by 0.4
# to 4 % even in FP32, and agrees to seven digits for the others.
FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family("Llama and SmolLM 2", "llama", traits=Traits("llama")),
    "MistralForCausalLM": Family(
        "Mistral", "mistral", traits=Traits("mistral", windows="all layers", defaults={"sliding_window": 4096})
    ),
    "Qwen2ForCausalLM": Family("Qwen 2", "qwen2", traits=Traits("qwen2", windows="by layer", defaults=_QWEN_WINDOWS)),
    "Qwen3ForCausalLM": Family(
        "Qwen 3", "qwen3", traits=Traits("qwen3", windows="by layer", head_norm="head", defaults=_QWEN_WINDOWS)
    ),
    "Phi3ForCausalLM": Family(
        "Phi-3 and Phi-4-mini",
        "phi3",
        traits=Traits("phi3", fused=True, windows="all layers", partly_rotated=True, defaults={"rms_norm_eps": 1e-5}),
    ),
    "Gemma2ForCausalLM": Family(
        "Gemma 2",
        "gemma2",
        traits=Traits(
            "gemma2",
            norms="around",
            norm_offset=1.0,
            windows="by layer",
            scaled_embedding=True,
            query_scalar=True,
            capped_attention=True,
            defaults=_GEMMA
            | {"sliding_window_pattern": 2, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
        ),
    ),
    "Gemma3ForCausalLM": Family(
        "Gemma 3",
        "gemma3_text",
        genai=False,
        olive=False,
        traits=Traits(
            "gemma3_text",
            norms="around",
            norm_offset=1.0,
            head_norm="head",
            windows="by layer",
            scaled_embedding=True,
            query_scalar=True,
            local_theta=10_000.0,
            defaults=_GEMMA | {"sliding_window_pattern": 6, "rope_theta": 1_000_000.0},
        ),
    ),
    "SmolLM3ForCausalLM": Family(
        "SmolLM 3",
        "smollm3",
        traits=Traits("smollm3", windows="by layer", defaults={"rope_theta": 2_000_000.0, "no_rope_layer_interval": 4}),
    ),
    "GraniteForCausalLM": Family(
        "Granite 3", "granite", traits=Traits("granite", defaults={"attention_multiplier": 1.0})
    ),
    "Olmo2ForCausalLM": Family(
        "OLMo 2",
        "olmo2",
        genai=False,
        olive=False,
        traits=Traits("olmo", norms="after", head_norm="row", defaults={"rms_norm_eps": 1e-5}),
    ),
    "Ernie4_5ForCausalLM": Family("ERNIE 4.5", "ernie4_5", uniform=False),
    "GemmaForCausalLM": Family("Gemma", "gemma"),
    "HunYuanDenseV1ForCausalLM": Family("Hunyuan", "hunyuan_v1_dense", uniform=False),
    "Lfm2ForCausalLM": Family("LFM2", "lfm2", uniform=False),
    "Lfm2MoeForCausalLM": Family("LFM2 MoE", "lfm2_moe", uniform=False, olive=False),
    "NemotronForCausalLM": Family("Nemotron", "nemotron", uniform=False, olive=False),
    "PhiForCausalLM": Family("Phi", "phi", uniform=False, olive=False),
}
STREAMED = tuple(name for name, family in FAMILIES.items() if family.traits is not None)
BY_GENAI = tuple(name for name, family in FAMILIES.items() if family.genai)
BY_OLIVE = tuple(name for name, family in FAMILIES.items() if family.olive)
UNIFORM = frozenset(family.model_type for family in FAMILIES.values() if family.uniform)
