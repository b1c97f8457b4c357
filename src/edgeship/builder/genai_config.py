"""genai_config.json: what onnxruntime-genai needs to know of a decoder's graph. Packaging tunes the rest of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeship.builder.families import Decoder
    from edgeship.checkpoint import Checkpoint


def genai_config(decoder: Decoder, checkpoint: Checkpoint) -> dict[str, Any]:
    """The file's content for a graph as graph.py authors it."""
    sizes, stop = decoder.sizes, checkpoint.stop
    eos = list(stop.eos_ids) or [0]
    return {
        "model": {
            **({} if stop.bos_id is None else {"bos_token_id": stop.bos_id}),
            "context_length": sizes.context_tokens,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": "model.onnx",
                "head_size": sizes.head_size,
                "hidden_size": sizes.hidden_size,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
                "num_attention_heads": sizes.heads,
                "num_hidden_layers": sizes.layers,
                "num_key_value_heads": sizes.kv_heads,
            },
            "eos_token_id": eos,
            "pad_token_id": eos[0] if stop.pad_id is None else stop.pad_id,
            "type": decoder.family.genai_type,
            "vocab_size": sizes.vocab_size,
        },
        "search": {
            "do_sample": False,
            "early_stopping": True,
            "max_length": sizes.context_tokens,
            "min_length": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": True,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
        },
    }
