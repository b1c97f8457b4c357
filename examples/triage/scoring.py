"""Greedy answers for eval.jsonl, and how many are exactly right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from examples.triage.data import NEW, SEEN
from transformers import AutoTokenizer

EvalCase = dict[str, Any]
Figures = dict[str, tuple[int, int]]


def read_cases(path: Path) -> list[EvalCase]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answers(model: Any, folder: Path, cases: list[EvalCase], batch: int = 64) -> list[str]:
    """Through AutoTokenizer and its chat template, as anyone loading the folder would."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    prompts: list[str] = [
        tokenizer.apply_chat_template(case["messages"], tokenize=False, add_generation_prompt=True) for case in cases
    ]
    by_length = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    found = [""] * len(prompts)
    for start in range(0, len(prompts), batch):
        rows = by_length[start : start + batch]
        inputs = tokenizer([prompts[at] for at in rows], return_tensors="pt", padding=True)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        with torch.no_grad():
            out = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=96, max_length=None, do_sample=False
            )
        texts = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        for at, text in zip(rows, texts, strict=True):
            found[at] = text
    return found


def figures(cases: list[EvalCase], found: list[str]) -> Figures:
    """(right, all) for each slice and for everything."""
    result: Figures = {}
    for name in (SEEN, NEW):
        pairs = zip(cases, found, strict=True)
        rows = [text == case["expected"] for case, text in pairs if case["slice"] == name]
        result[name] = (sum(rows), len(rows))
    result["all"] = (sum(r for r, _ in result.values()), sum(n for _, n in result.values()))
    return result


def as_row(label: str, result: Figures) -> str:
    cells = [f"{right}/{total} ({100 * right / max(1, total):.1f} %)" for right, total in result.values()]
    return f"| {label} | " + " | ".join(cells) + " |"


def round_to_int4(model: torch.nn.Module, block: int = 32) -> None:
    """Symmetric round to nearest along each row, embedding included: roughly what 4-bit weights will do."""
    for parameter in model.parameters():
        if parameter.ndim != 2:
            continue
        blocks = parameter.data.view(parameter.shape[0], -1, block)
        scale = (blocks.abs().amax(dim=-1, keepdim=True) / 7).clamp(min=1e-12)
        parameter.data = ((blocks / scale).round().clamp(-8, 7) * scale).view_as(parameter)
