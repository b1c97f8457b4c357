"""Small real checkpoints for tests, made in milliseconds without PyTorch: random weights, a real BPE tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_SIZE, MLP, VOCAB = 64, 2, 4, 2, 16, 96, 384


def qwen2_config(**changes: Any) -> dict[str, Any]:
    """config.json of a tiny Qwen2."""
    config: dict[str, Any] = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": HIDDEN,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "hidden_act": "silu",
        "vocab_size": VOCAB,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "dtype": "float32",
        "initializer_range": 0.05,
        "use_cache": True,
    }
    return config | changes


def qwen2_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of a tiny Qwen2, float32, in Hugging Face's names and [out, in] layout."""
    rng = np.random.default_rng(seed)

    def matrix(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.05, shape).astype(np.float32)

    kv = KV_HEADS * HEAD_SIZE
    weights = {
        "model.embed_tokens.weight": matrix(VOCAB, HIDDEN),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
    }
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        weights |= {
            name + "input_layernorm.weight": np.ones(HIDDEN, np.float32),
            name + "post_attention_layernorm.weight": np.ones(HIDDEN, np.float32),
            name + "self_attn.q_proj.weight": matrix(HIDDEN, HIDDEN),
            name + "self_attn.q_proj.bias": matrix(HIDDEN),
            name + "self_attn.k_proj.weight": matrix(kv, HIDDEN),
            name + "self_attn.k_proj.bias": matrix(kv),
            name + "self_attn.v_proj.weight": matrix(kv, HIDDEN),
            name + "self_attn.v_proj.bias": matrix(kv),
            name + "self_attn.o_proj.weight": matrix(HIDDEN, HIDDEN),
            name + "mlp.gate_proj.weight": matrix(MLP, HIDDEN),
            name + "mlp.up_proj.weight": matrix(MLP, HIDDEN),
            name + "mlp.down_proj.weight": matrix(HIDDEN, MLP),
        }
    return weights


def make_tokenizer(folder: Path, template: str | None = CHATML) -> None:
    """A byte-level BPE tokenizer with ChatML's special tokens, as transformers 5 saves one."""
    tokenizer = Tokenizer(models.BPE())
    # As Qwen2's: transformers puts these in place for every qwen2 checkpoint, whatever tokenizer.json says.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    tokenizer.train_from_iterator(["hello world, how are you today? system user assistant order"] * 8, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 512,
        },
    )
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def make_sentencepiece_tokenizer(folder: Path, *, bos: str | None = "<s>") -> None:
    """A SentencePiece tokenizer as transformers 5 saves Llama's: a space is put before the first piece of a text only.

    For a checkpoint with 384 tokens; the ids of <s> and </s> are 1 and 2.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    bytewise = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[*special[:3], *bytewise, *special[3:]])
    tokenizer.train_from_iterator(["hello world, how are you today? user assistant order"] * 8, trainer)
    saved = json.loads(tokenizer.to_str())
    saved["pre_tokenizer"]["split"] = False
    saved["added_tokens"] = [token for token in saved["added_tokens"] if token["content"] in special]
    write_json(folder / "tokenizer.json", saved)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(folder / "tokenizer_config.json", config | ({"bos_token": bos} if bos else {}))


def make_checkpoint(
    folder: Path, *, seed: int = 0, template: str | None = CHATML, config: dict[str, Any] | None = None
) -> Path:
    """A whole tiny Qwen2 checkpoint in `folder`; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config or qwen2_config())
    write_json(folder / "generation_config.json", {"eos_token_id": [2, 0], "pad_token_id": 0, "do_sample": False})
    save_file(qwen2_weights(seed), folder / "model.safetensors", metadata={"format": "pt"})
    make_tokenizer(folder, template)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# tiny\n", encoding="utf-8")
    return folder


def make_adapter(folder: Path, *, rank: int = 4, alpha: int = 8, seed: int = 1, **changes: Any) -> Path:
    """A LoRA adapter for `make_checkpoint`, in peft's layout: q_proj and down_proj of every layer."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": ["q_proj", "down_proj"],
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
    }
    write_json(folder / "adapter_config.json", config | changes)
    tensors = {}
    for layer in range(LAYERS):
        for module, inputs, outputs in (
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("mlp.down_proj", MLP, HIDDEN),
        ):
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = rng.normal(0, 0.2, (rank, inputs)).astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = rng.normal(0, 0.2, (outputs, rank)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def write_json(path: Path, value: Any) -> None:
    """Pretty JSON, as Hugging Face writes it."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
