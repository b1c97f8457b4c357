"""Checkpoints of random weights in the shape of known models: speed and size do not depend on what weights say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN25_05B: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "dtype": "bfloat16",
}


def make(folder: Path, config: dict[str, Any], seed: int = 0) -> Path:
    """Writes the checkpoint unless it is there; bf16, one tensor in memory at a time."""
    done = folder / "model.safetensors"
    if done.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 0}))
    _tokenizer(folder)
    temporary = done.with_suffix(".tmp")
    _weights(temporary, _shapes(config), np.random.default_rng(seed))
    temporary.replace(done)
    return folder


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, mlp = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        for module, rows in (("q", hidden), ("k", kv), ("v", kv)):
            shapes[f"{name}self_attn.{module}_proj.weight"] = (rows, hidden)
            shapes[f"{name}self_attn.{module}_proj.bias"] = (rows,)
        shapes[f"{name}self_attn.o_proj.weight"] = (hidden, hidden)
        shapes[f"{name}mlp.gate_proj.weight"] = shapes[f"{name}mlp.up_proj.weight"] = (mlp, hidden)
        shapes[f"{name}mlp.down_proj.weight"] = (hidden, mlp)
        shapes[f"{name}input_layernorm.weight"] = (hidden,)
        shapes[f"{name}post_attention_layernorm.weight"] = (hidden,)
    return shapes | {"model.norm.weight": (hidden,)}


def _weights(path: Path, shapes: dict[str, tuple[int, ...]], rng: np.random.Generator) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            norm = "norm" in name
            values = np.ones(shape, np.float32) if norm else rng.standard_normal(shape, np.float32) * 0.02
            stream.write(values.astype(ml_dtypes.bfloat16).tobytes())


def _tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["system user assistant"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(CHATML)
