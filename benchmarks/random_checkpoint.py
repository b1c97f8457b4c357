"""Checkpoints of random weights in the shape of known models: speed and size do not depend on what weights say.

A normal variate for every element would take minutes at 7 B. One block of them is drawn; every tensor is pieces of it,
each from a random place and with a random sign.
"""

from __future__ import annotations

import itertools
import json
import shutil
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

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
QWEN25_3B = QWEN25_05B | {
    "hidden_size": 2048,
    "intermediate_size": 11_008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
}
QWEN25_7B = QWEN25_05B | {
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152_064,
    "tie_word_embeddings": False,
}
QWEN35_08B: dict[str, Any] = {
    "architectures": ["Qwen3_5ForCausalLM"],
    "model_type": "qwen3_5_text",
    "hidden_size": 1024,
    "intermediate_size": 3584,
    "num_hidden_layers": 24,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "hidden_act": "silu",
    "vocab_size": 248_320,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000_000.0, "partial_rotary_factor": 0.25},
    "tie_word_embeddings": True,
    "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 6,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 16,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "dtype": "bfloat16",
}
# The same work for each token; the head is its own, so that it can name another token than the one that was read.
SUCCEEDING_05B = QWEN25_05B | {"tie_word_embeddings": False}
FILE_BYTES = 5_000_000_000
_BLOCK = 16 * 2**20
_SIGN = np.uint16(0x8000)

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SPACE = "Ġ"  # as byte-level tokenizers write it
_STEP = 77_777  # shares no factor with the vocabulary, so that a text comes back to a token after all others only
_LOUD = 1024.0

Shapes = dict[str, tuple[int, ...]]


def make(folder: Path, config: dict[str, Any], seed: int = 0) -> Path:
    """Writes the checkpoint unless it is there: bf16, in files of at most FILE_BYTES."""
    if folder.exists():
        return folder
    temporary = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / "config.json").write_text(json.dumps(config, indent=2))
    (temporary / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "pad_token_id": 0}))
    _tokenizer(temporary, config["vocab_size"])
    _weights(temporary, shapes(config), np.random.default_rng(seed))
    temporary.replace(folder)
    return folder


def make_succeeding(folder: Path, config: dict[str, Any] = SUCCEEDING_05B, seed: int = 0) -> Path:
    """A checkpoint like those of `make` whose likeliest next token is `successor` of the last, whatever stood before.

    Every layer is computed as ever, but embeddings are so large that what layers add to them does not matter, and the
    head's row of a token is the embedding of the one before it. So texts can be made that the model is going to say.
    """
    if folder.exists():
        return folder
    temporary = make(folder.with_name(f"{folder.name}.tmp"), config, seed)
    path = temporary / "model.safetensors"
    with path.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        shape = tuple(header["lm_head.weight"]["shape"])
        head = np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(0.02)
        for name, values in (
            ("lm_head.weight", head),
            ("model.embed_tokens.weight", np.roll(head, -_STEP, axis=0) * np.float32(_LOUD)),
        ):
            stream.seek(8 + length + header[name]["data_offsets"][0])
            stream.write(values.astype(ml_dtypes.bfloat16).tobytes())
    temporary.replace(folder)
    return folder


def successor(token: int, steps: int = 1, config: dict[str, Any] = SUCCEEDING_05B) -> int:
    """What such a checkpoint says after `token`, that many tokens later."""
    return int((token + steps * _STEP) % config["vocab_size"])


def parameters(config: dict[str, Any]) -> int:
    """Weights in the checkpoint; tied embeddings count once."""
    return sum(map(_count, shapes(config).values()))


def shapes(config: dict[str, Any]) -> Shapes:
    """The tensors of a Qwen2 or Qwen3.5 checkpoint, in the order of the forward pass."""
    hidden, mlp = config["hidden_size"], config["intermediate_size"]
    found: Shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        if "layer_types" not in config:
            mixing = _qwen2_attention(config)
        elif config["layer_types"][layer] == "full_attention":
            mixing = _qwen35_attention(config)
        else:
            mixing = _gated_delta(config)
        found |= {f"{name}{module}": shape for module, shape in mixing.items()}
        found[f"{name}mlp.gate_proj.weight"] = found[f"{name}mlp.up_proj.weight"] = (mlp, hidden)
        found[f"{name}mlp.down_proj.weight"] = (hidden, mlp)
        found[f"{name}input_layernorm.weight"] = (hidden,)
        found[f"{name}post_attention_layernorm.weight"] = (hidden,)
    found["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], hidden)
    return found


def _qwen2_attention(config: dict[str, Any]) -> Shapes:
    hidden = config["hidden_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    found: Shapes = {}
    for module, rows in (("q", hidden), ("k", kv), ("v", kv)):
        found[f"self_attn.{module}_proj.weight"] = (rows, hidden)
        found[f"self_attn.{module}_proj.bias"] = (rows,)
    return found | {"self_attn.o_proj.weight": (hidden, hidden)}


def _qwen35_attention(config: dict[str, Any]) -> Shapes:
    hidden, size = config["hidden_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    return {
        "self_attn.q_proj.weight": (2 * queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.q_norm.weight": (size,),
        "self_attn.k_norm.weight": (size,),
        "self_attn.o_proj.weight": (hidden, queries),
    }


def _gated_delta(config: dict[str, Any]) -> Shapes:
    hidden, heads = config["hidden_size"], config["linear_num_value_heads"]
    keys = config["linear_num_key_heads"] * config["linear_key_head_dim"]
    values = heads * config["linear_value_head_dim"]
    channels = 2 * keys + values
    return {
        "linear_attn.in_proj_qkv.weight": (channels, hidden),
        "linear_attn.in_proj_z.weight": (values, hidden),
        "linear_attn.in_proj_b.weight": (heads, hidden),
        "linear_attn.in_proj_a.weight": (heads, hidden),
        "linear_attn.conv1d.weight": (channels, 1, config["linear_conv_kernel_dim"]),
        "linear_attn.A_log": (heads,),
        "linear_attn.dt_bias": (heads,),
        "linear_attn.norm.weight": (config["linear_value_head_dim"],),
        "linear_attn.out_proj.weight": (hidden, values),
    }


def _weights(folder: Path, tensors: Shapes, rng: np.random.Generator) -> None:
    """One model.safetensors, or several and their index."""
    block = (rng.standard_normal(_BLOCK, np.float32) * 0.02).astype(ml_dtypes.bfloat16).view(np.uint16)
    files = _split(tensors)
    if len(files) == 1:
        _write(folder / "model.safetensors", tensors, block, rng)
        return
    weight_map: dict[str, str] = {}
    for number, part in enumerate(files, 1):
        name = f"model-{number:05}-of-{len(files):05}.safetensors"
        _write(folder / name, part, block, rng)
        weight_map |= dict.fromkeys(part, name)
    total = sum(2 * _count(shape) for shape in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def _split(tensors: Shapes) -> list[Shapes]:
    files: list[Shapes] = [{}]
    used = 0
    for name, shape in tensors.items():
        size = 2 * _count(shape)
        if files[-1] and used + size > FILE_BYTES:
            files.append({})
            used = 0
        files[-1][name] = shape
        used += size
    return files


def _write(path: Path, tensors: Shapes, block: npt.NDArray[np.uint16], rng: np.random.Generator) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        size = 2 * _count(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            if "norm" in name:
                stream.write(np.ones(shape, ml_dtypes.bfloat16).tobytes())
            else:
                stream.writelines(_pieces(_count(shape), block, rng))


def _pieces(count: int, block: npt.NDArray[np.uint16], rng: np.random.Generator) -> Iterator[bytes]:
    """`count` bf16 values. A piece is at most half the block, so that its place matters."""
    while count:
        start = int(rng.integers(block.size // 2))
        piece = block[start : start + min(count, block.size // 2)]
        yield (piece ^ _SIGN if rng.integers(2) else piece).tobytes()
        count -= piece.size


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _tokenizer(folder: Path, vocab_size: int) -> None:
    """Byte pairs, as many tokens as the model has: a token without text would leave no event in a server's stream."""
    vocabulary, merges = _words(vocab_size)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(CHATML)


def _words(vocab_size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """All bytes, all pairs of letters, and words of a space and four letters up to the size; and how each is merged."""
    letters = list(string.ascii_lowercase)
    pairs = list(itertools.product(letters, letters))
    merges = [(_SPACE, letter) for letter in letters]
    merges += [(_SPACE + one, other) for one, other in pairs]
    merges += pairs
    single = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    joined = ["".join(pair) for pair in pairs]
    words = itertools.product((_SPACE + pair for pair in joined), joined)
    merges += itertools.islice(words, vocab_size - len(single) - len(merges))
    tokens = [*single, *(one + other for one, other in merges)]
    return {token: number for number, token in enumerate(tokens)}, merges
