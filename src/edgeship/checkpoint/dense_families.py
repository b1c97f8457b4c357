"""Rows of the table of families: models all of whose layers attend, and have an MLP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from edgeship.checkpoint.traits import Family, Traits

_ALL_FUSED: frozenset[Literal["attention", "mlp"]] = frozenset({"attention", "mlp"})
_QWEN_WINDOWS = {"sliding_window": 4096, "max_window_layers": 28}
_WINDOWS_ON = {"use_sliding_window": True}
_GLM = {"rms_norm_eps": 1.5625e-7, "partial_rotary_factor": 0.5, "num_key_value_heads": 2, "head_dim": 128}
_LIKE_GLM: Any = {"fused": frozenset({"mlp"}), "partly_rotated": True, "neighbours_rotate": True}
GRANITE_FACTORS = {"attention_multiplier": 1.0, "embedding_multiplier": 1.0, "residual_multiplier": 1.0}
_GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "use_sliding_window": True,
}
_GEMMA4 = {
    "hidden_activation": "gelu_pytorch_tanh",
    "final_logit_softcapping": None,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "global_head_dim": 512,
    "hidden_size_per_layer_input": 256,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    **_WINDOWS_ON,
    "rope_parameters": {
        "full_attention": {"rope_type": "proportional", "rope_theta": 1_000_000.0, "partial_rotary_factor": 0.25},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    },
}
_GEMMA4_TRAITS = Traits(
    "gemma4_text",
    norms="around",
    head_norm="head",
    value_norm=True,
    windows="by layer",
    last_sees_all=True,
    scaled_embedding=True,
    local_rope=True,
    local_theta=10_000.0,
    defaults=_GEMMA4,
    fixed={"attention_multiplier": 1.0},
)

DENSE: Mapping[str, Family] = {
    "LlamaForCausalLM": Family("Llama and SmolLM 2", "llama", traits=Traits("llama")),
    "MllamaForCausalLM": Family(
        "Llama 3.2 Vision",
        "mllama_text_model",
        genai=False,
        olive=False,
        traits=Traits(
            "llama",
            looks_between=True,
            beyond_vocabulary=8,
            defaults={
                "rope_theta": 500_000.0,
                "rms_norm_eps": 1e-5,
                "num_key_value_heads": 8,
                "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
            },
        ),
    ),
    "MistralForCausalLM": Family(
        "Mistral", "mistral", traits=Traits("mistral", windows="all layers", defaults={"sliding_window": 4096})
    ),
    "Qwen2ForCausalLM": Family(
        "Qwen 2",
        "qwen2",
        traits=Traits("qwen2", windows="by layer", defaults=_QWEN_WINDOWS),
        text_types={"qwen2_vl_text": {}, "qwen2_5_vl_text": {}},
    ),
    "Qwen3ForCausalLM": Family(
        "Qwen 3",
        "qwen3",
        traits=Traits("qwen3", windows="by layer", head_norm="head", defaults=_QWEN_WINDOWS),
        text_types={"qwen3_vl_text": {}},
    ),
    "Phi3ForCausalLM": Family(
        "Phi-3 and Phi-4-mini",
        "phi3",
        traits=Traits(
            "phi3",
            fused=_ALL_FUSED,
            windows="all layers",
            partly_rotated=True,
            sense_adapters=("vision", "speech"),
            defaults={"rms_norm_eps": 1e-5},
        ),
        text_types={"phi4_multimodal": {}, "phi4mm": {}},
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
            local_rope=True,
            local_theta=10_000.0,
            defaults=_GEMMA | {"sliding_window_pattern": 6, "rope_theta": 1_000_000.0, "final_logit_softcapping": None},
        ),
    ),
    "Gemma4ForCausalLM": Family(
        "Gemma 4",
        "gemma4_text",
        uniform=False,
        genai=False,
        olive=False,
        traits=_GEMMA4_TRAITS,
    ),
    "Gemma4UnifiedForCausalLM": Family(
        "Gemma 4 Unified",
        "gemma4_unified_text",
        uniform=False,
        genai=False,
        olive=False,
        traits=replace(_GEMMA4_TRAITS, defaults={**_GEMMA4, "hidden_size_per_layer_input": 0, "sliding_window": 1024}),
    ),
    "SmolLM3ForCausalLM": Family(
        "SmolLM 3",
        "smollm3",
        traits=Traits("smollm3", windows="by layer", defaults={"rope_theta": 2_000_000.0, "no_rope_layer_interval": 4}),
    ),
    "GraniteForCausalLM": Family("Granite 3", "granite", traits=Traits("granite", defaults=GRANITE_FACTORS)),
    "OlmoForCausalLM": Family(
        "OLMo",
        "olmo",
        genai=False,
        olive=False,
        traits=Traits(
            "olmo",
            centred_norms=True,
            unweighted_norms=True,
            defaults={"clip_qkv": None},
            fixed={"rms_norm_eps": 1e-5},
        ),
    ),
    "Olmo2ForCausalLM": Family(
        "OLMo 2",
        "olmo2",
        genai=False,
        olive=False,
        traits=Traits("olmo", norms="after", head_norm="row", defaults={"rms_norm_eps": 1e-5}),
    ),
    "Olmo3ForCausalLM": Family(
        "OLMo 3",
        "olmo3",
        genai=False,
        olive=False,
        traits=Traits(
            "olmo",
            norms="after",
            head_norm="row",
            windows="by layer",
            local_rope=True,
            defaults={
                "rope_theta": 500_000.0,
                "rms_norm_eps": 1e-5,
                "sliding_window": 4096,
                "sliding_window_pattern": 4,
                **_WINDOWS_ON,
            },
        ),
    ),
    "GemmaForCausalLM": Family(
        "Gemma",
        "gemma",
        traits=Traits(
            "gemma",
            norm_offset=1.0,
            scaled_embedding=True,
            gelu_is_tanh=True,
            defaults={"hidden_act": "gelu_pytorch_tanh", "num_key_value_heads": 16, "head_dim": 256},
        ),
    ),
    "SeedOssForCausalLM": Family(
        "Seed-OSS",
        "seed_oss",
        genai=False,
        olive=False,
        traits=Traits("llama", defaults={"num_key_value_heads": 8, "head_dim": 128}),
    ),
    "ArceeForCausalLM": Family(
        "Arcee",
        "arcee",
        genai=False,
        olive=False,
        traits=Traits("llama", gated=False, defaults={"hidden_act": "relu2", "rms_norm_eps": 1e-5}),
    ),
    "Exaone4ForCausalLM": Family(
        "EXAONE 4",
        "exaone4",
        genai=False,
        olive=False,
        traits=Traits(
            "llama",
            norms="after",
            head_norm="head",
            windows="by layer",
            window_rotates=True,
            defaults={"rms_norm_eps": 1e-5, "sliding_window": 4096, "sliding_window_pattern": 4, **_WINDOWS_ON},
        ),
    ),
    "GlmForCausalLM": Family(
        "GLM", "glm", genai=False, olive=False, traits=Traits("llama", defaults=_GLM, **_LIKE_GLM)
    ),
    "Glm4ForCausalLM": Family(
        "GLM-4",
        "glm4",
        genai=False,
        olive=False,
        traits=Traits(
            "llama",
            norms="around",
            names={
                "attention_post_norm": "post_self_attn_layernorm",
                "mlp_norm": "post_attention_layernorm",
                "mlp_post_norm": "post_mlp_layernorm",
            },
            defaults=_GLM,
            **_LIKE_GLM,
        ),
    ),
    "Ernie4_5ForCausalLM": Family(
        "ERNIE 4.5",
        "ernie4_5",
        uniform=False,
        traits=Traits(
            "ernie4_5",
            neighbours_rotate=True,
            defaults={
                "rms_norm_eps": 1e-5,
                "rope_theta": 500_000.0,
                "num_key_value_heads": 2,
                "head_dim": 128,
            },
        ),
    ),
    "HunYuanDenseV1ForCausalLM": Family(
        "Hunyuan",
        "hunyuan_v1_dense",
        uniform=False,
        traits=Traits(
            "llama",  # onnxruntime-genai 0.18 builds the family, and does not run it under its own name
            head_norm="head",
            rotated_first=True,
            names={"query_norm": "self_attn.query_layernorm", "key_norm": "self_attn.key_layernorm"},
            defaults={"rms_norm_eps": 1e-5},
        ),
    ),
    "Ministral3ForCausalLM": Family(
        "Ministral 3",
        "ministral3",
        genai=False,
        olive=False,
        traits=Traits(
            "mistral", windows="all layers", defaults={"rms_norm_eps": 1e-5, "num_key_value_heads": 8, "head_dim": 128}
        ),
    ),
    "PhiForCausalLM": Family(
        "Phi-1 and Phi-2",
        "phi",
        uniform=False,
        olive=False,
        traits=Traits(
            "phi",
            centred_norms=True,
            parallel=True,
            gated=False,
            partly_rotated=True,
            names={
                "output": "self_attn.dense",
                "up": "mlp.fc1",
                "down": "mlp.fc2",
                "last_norm": "final_layernorm",
            },
            defaults={"hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5},
        ),
    ),
    "NemotronForCausalLM": Family(
        "Nemotron",
        "nemotron",
        uniform=False,
        olive=False,
        traits=Traits(
            "nemotron",
            centred_norms=True,
            norm_offset=1.0,
            gated=False,
            partly_rotated=True,
            defaults={"hidden_act": "relu2", "norm_eps": 1e-5, "partial_rotary_factor": 0.5},
        ),
    ),
    "ApertusForCausalLM": Family(
        "Apertus",
        "apertus",
        uniform=False,
        genai=False,
        olive=False,
        traits=Traits(
            "llama",
            head_norm="head",
            gated=False,
            names={"attention_norm": "attention_layernorm", "mlp_norm": "feedforward_layernorm"},
            defaults={
                "hidden_act": "xielu",
                "rms_norm_eps": 1e-5,
                "rope_theta": 12_000_000.0,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "original_max_position_embeddings": 8192,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                },
            },
        ),
    ),
}
