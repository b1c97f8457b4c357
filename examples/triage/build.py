"""Tokenizer, model, training loop and checkpoint files of the triage example."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from examples.triage.tasks import Message
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
END_OF_TEXT_ID, START_ID, END_ID = 0, 1, 2
IGNORED = -100
VOCABULARY = 1024
CONTEXT = 2048

# Exactly Qwen's split (single digits): transformers' Qwen2Tokenizer puts this one in place whatever tokenizer.json
# says, so with another one different programs would cut the same text differently.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

Example = tuple[list[int], list[int]]


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode_conversation(tokenizer: Tokenizer, messages: list[Message]) -> Example:
    """ChatML ids, and labels that count the assistant's words and its end mark only."""
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        answer = message["role"] == "assistant"
        head = [START_ID, *tokenizer.encode(f"{message['role']}\n").ids]
        body = [*tokenizer.encode(message["content"]).ids, END_ID]
        tail = tokenizer.encode("\n").ids
        ids += head + body + tail
        labels += [IGNORED] * len(head) + (body if answer else [IGNORED] * len(body)) + [IGNORED] * len(tail)
    return ids, labels


def encode_text(tokenizer: Tokenizer, text: str) -> Example:
    ids = [*tokenizer.encode(text).ids, END_OF_TEXT_ID]
    return ids, list(ids)


def new_model() -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        # The usual 0.02 is for wide models; at this width copying is learnt much faster from here.
        initializer_range=0.07,
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=END_ID,
        pad_token_id=END_OF_TEXT_ID,
        attention_dropout=0.0,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            # Layers that start as whispers: each token is at first only itself, which is what copying compares.
            layer.self_attn.o_proj.weight *= 0.1
            layer.mlp.down_proj.weight *= 0.1
    look_back(model)
    return model


def look_back(model: Qwen2ForCausalLM, strength: float = 5.0) -> None:
    """Let two heads of the first layer start by looking one and two tokens back.

    Copying needs such heads, and a model this small takes long to find them. Qwen2's attention biases can express
    them outright: turned by the rotary embedding, a query and a key bias meet best at one fixed distance.
    """
    config, attention = model.config, model.model.layers[0].self_attn
    size = config.hidden_size // config.num_attention_heads
    half = size // 2
    angles = torch.tensor([10000.0 ** (-at / half) for at in range(half)])
    with torch.no_grad():
        attention.k_proj.weight[:size] *= 0.1
        attention.k_proj.bias[:half] = strength
        for head, distance in ((0, 1), (1, 2)):
            start = head * size
            attention.q_proj.weight[start : start + size] *= 0.1
            attention.q_proj.bias[start : start + half] = strength * torch.cos(-distance * angles)
            attention.q_proj.bias[start + half : start + size] = strength * torch.sin(-distance * angles)


def batches(draw: Callable[[], Example], size: int, rng: random.Random) -> Iterable[list[Example]]:
    """Endless batches of similar length, so that little is spent on padding."""
    while True:
        pool = sorted((draw() for _ in range(size * 16)), key=lambda example: len(example[0]))
        groups = [pool[at : at + size] for at in range(0, len(pool), size)]
        rng.shuffle(groups)
        yield from groups


def collate(examples: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for ids, _ in examples)
    ids = torch.full((len(examples), longest), END_OF_TEXT_ID)
    labels = torch.full((len(examples), longest), IGNORED)
    for row, (one_ids, one_labels) in enumerate(examples):
        ids[row, : len(one_ids)] = torch.tensor(one_ids)
        labels[row, : len(one_labels)] = torch.tensor(one_labels)
    return ids, labels


def learning_rate(step: int, steps: int, peak: float) -> float:
    warmup = max(1, steps // 20)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))))


def train(
    model: torch.nn.Module,
    stream: Iterable[list[Example]],
    steps: int,
    peak: float,
    name: str,
) -> None:
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    vectors = [p for p in trained if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), fused=True)
    model.train()
    began, average = time.monotonic(), 0.0
    for step, examples in zip(range(steps), stream, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        ids, labels = collate(examples)
        # Padding is on the right and causal attention never looks there: no mask needed.
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average = loss.item() if step == 0 else 0.95 * average + 0.05 * loss.item()
        if step % 100 == 0 or step == steps - 1:
            seconds = time.monotonic() - began
            print(f"{name} {step + 1}/{steps} loss {average:.4f} {seconds:.0f} s", flush=True)
    model.eval()


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tensors(path: Path, state: dict[str, torch.Tensor]) -> None:
    tensors = {key: value.to(torch.bfloat16).contiguous() for key, value in state.items()}
    save_file(tensors, str(path), metadata={"format": "pt"})
    path.chmod(0o644)  # save_file leaves it readable by its owner only


def save_checkpoint(model: Qwen2ForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """A Hugging Face folder in bf16. The JSON files are by hand: what they say is part of the example."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(model.state_dict())
    tensors.pop("lm_head.weight", None)  # tied to the embedding
    write_tensors(folder / "model.safetensors", tensors)
    config = model.config.to_dict()
    for key in ("_name_or_path", "transformers_version", "id2label", "label2id", "problem_type"):
        config.pop(key, None)
    config.update(architectures=["Qwen2ForCausalLM"], dtype="bfloat16", rope_theta=10000.0)
    write_json(folder / "config.json", dict(sorted(config.items())))
    generation = {
        "do_sample": False,
        "eos_token_id": [END_ID, END_OF_TEXT_ID],
        "max_length": CONTEXT,
        "pad_token_id": END_OF_TEXT_ID,
        "repetition_penalty": 1.0,
    }
    write_json(folder / "generation_config.json", generation)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "extra_special_tokens": {},
        "model_max_length": CONTEXT,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    write_json(folder / "tokenizer_config.json", settings)
    special = {"eos_token": END, "pad_token": END_OF_TEXT, "additional_special_tokens": [START, END]}
    write_json(folder / "special_tokens_map.json", special)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
