"""Make the triage example: data, tokenizer, base model, LoRA adapter, fine-tuned checkpoint, figures.

From the repository root:
    python -m examples.triage.make                             everything, half an hour on two cores
    python -m examples.triage.make --keep-base                 all but the base
    python -m examples.triage.make --quick --out /tmp/triage   a minute, poor answers; for tests
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from examples.triage import build, scoring
from examples.triage.data import held_out_cases, training_case
from examples.triage.tasks import base_conversation, triage_conversation
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

SEED = 20240611
BASE_NAME = "examples/triage/base"


@dataclass(frozen=True)
class Plan:
    tokenizer_texts: int = 20_000
    base_steps: int = 3400
    base_peak: float = 1.5e-3
    lora_steps: int = 2000
    lora_peak: float = 2e-3
    lora_rank: int = 24
    # Batch, steps and peak learning rate of each round with all weights; the first two are averaged before the third.
    full_rounds: tuple[tuple[int, int, float], ...] = (
        (16, 2300, 1.2e-3),
        (16, 1400, 8e-4),
        (32, 430, 4e-4),
        (32, 240, 3e-4),
    )
    batch: int = 16
    seen: int = 240
    new: int = 84


QUICK = Plan(
    tokenizer_texts=3000,
    base_steps=60,
    lora_steps=40,
    full_rounds=((16, 20, 1e-3),) * 3,
    batch=16,
    seen=12,
    new=6,
)


def write_eval(plan: Plan, path: Path) -> None:
    cases = held_out_cases(random.Random(f"{SEED} eval"), plan.seen, plan.new)
    lines = []
    for number, (slice_name, case) in enumerate(cases, start=1):
        messages = [{"role": "user", "content": case.text}]
        row = {"id": f"t{number:03d}", "slice": slice_name, "messages": messages, "expected": case.answer}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def make_tokenizer(plan: Plan) -> Tokenizer:
    rng = random.Random(f"{SEED} tokenizer")
    texts: list[str] = []
    for _ in range(plan.tokenizer_texts):
        case = training_case(rng)
        texts += [case.text, case.answer]
        texts += [message["content"] for message in base_conversation(rng)]
    return build.train_tokenizer(texts)


def make_base(plan: Plan, folder: Path) -> None:
    tokenizer = make_tokenizer(plan)
    rng = random.Random(f"{SEED} base")
    torch.manual_seed(SEED)
    model = build.new_model()
    print(f"model: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)

    drawn = 0

    def draw() -> build.Example:
        nonlocal drawn
        drawn += 1
        if rng.random() < 0.05:
            return build.encode_text(tokenizer, training_case(rng).text)
        # Plain copying first: short and dense examples, and everything else builds on it.
        early = drawn < plan.base_steps * plan.batch / 5
        return build.encode_conversation(tokenizer, base_conversation(rng, 0.8 if early else 0.15))

    build.train(model, build.batches(draw, plan.batch, rng), plan.base_steps, plan.base_peak, "base")
    build.save_checkpoint(model, tokenizer, folder)


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def save_adapter(model: Any, config: peft.LoraConfig, folder: Path) -> None:
    """As peft would, but in bf16 and without its boilerplate and local paths."""
    folder.mkdir(parents=True, exist_ok=True)
    state = peft.get_peft_model_state_dict(model)
    build.write_tensors(folder / "adapter_model.safetensors", state)
    settings = {
        "base_model_name_or_path": BASE_NAME,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": config.r,
        "target_modules": sorted(config.target_modules or ()),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    build.write_json(folder / "adapter_config.json", settings)


def make_adapter(plan: Plan, base: Path, folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    rng = random.Random(f"{SEED} lora")
    torch.manual_seed(SEED)
    config = peft.LoraConfig(
        r=plan.lora_rank,
        lora_alpha=2 * plan.lora_rank,
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(load(base), config)

    def draw() -> build.Example:
        return build.encode_conversation(tokenizer, triage_conversation(rng))

    build.train(model, build.batches(draw, plan.batch, rng), plan.lora_steps, plan.lora_peak, "lora")
    save_adapter(model, config, folder)


def make_merged(base: Path, adapter: Path, folder: Path) -> None:
    """From the rounded files, in FP32, so that anyone merging the two folders gets the same weights."""
    merged = peft.PeftModel.from_pretrained(load(base), str(adapter)).merge_and_unload()
    build.save_checkpoint(merged, Tokenizer.from_file(str(base / "tokenizer.json")), folder)


def finish(plan: Plan, base: Path, folder: Path) -> None:
    """Goes on from the merged checkpoint with all weights: LoRA alone leaves copying short of the mark."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    model = load(folder)
    rounds: list[dict[str, torch.Tensor]] = []
    for number, (batch, steps, peak) in enumerate(plan.full_rounds, start=1):
        rng = random.Random(f"{SEED} full {number}")
        torch.manual_seed(SEED)
        if number == 3:
            average(model, rounds[-2:])

        def draw(rng: random.Random = rng) -> build.Example:
            return build.encode_conversation(tokenizer, triage_conversation(rng))

        build.train(model, build.batches(draw, batch, rng), steps, peak, f"full {number}")
        rounds.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    build.save_checkpoint(model, tokenizer, folder)


def average(model: torch.nn.Module, states: list[dict[str, torch.Tensor]]) -> None:
    """Gives the model the mean of several states: it lies lower than either, where training only jumped about."""
    model.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})


def report(out: Path) -> None:
    cases = scoring.read_cases(out / "eval.jsonl")
    base, adapter, checkpoint = out / "base", out / "adapter", out / "checkpoint"
    int4 = load(checkpoint)
    scoring.round_to_int4(int4)
    models = {
        "checkpoint": (load(checkpoint), checkpoint),
        "base + adapter": (peft.PeftModel.from_pretrained(load(base), str(adapter)).eval(), base),
        "base alone": (load(base), base),
        "checkpoint, simulated INT4": (int4, checkpoint),
    }
    print("\n| FP32, greedy, exact answers | seen wording | new wording | all |\n| --- | --- | --- | --- |")
    wrong: list[str] = []
    for label, (model, folder) in models.items():
        found = scoring.answers(model, folder, cases)
        print(scoring.as_row(label, scoring.figures(cases, found)), flush=True)
        if label == "checkpoint":
            rows = [(case, text) for case, text in zip(cases, found, strict=True) if text != case["expected"]]
            wrong = [f"{c['id']} {c['slice']}: wanted {c['expected']}\n  got {text}" for c, text in rows]
    print("\nwrong answers of the checkpoint:", *wrong, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the folders go")
    parser.add_argument("--quick", action="store_true", help="a minute of training, for tests")
    parser.add_argument("--keep-base", action="store_true", help="use OUT/base as it is")
    arguments = parser.parse_args()
    plan, out = (QUICK if arguments.quick else Plan()), arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    began = time.monotonic()
    write_eval(plan, out / "eval.jsonl")
    if not arguments.keep_base:
        make_base(plan, out / "base")
    make_adapter(plan, out / "base", out / "adapter")
    make_merged(out / "base", out / "adapter", out / "checkpoint")
    finish(plan, out / "base", out / "checkpoint")
    print(f"trained in {time.monotonic() - began:.0f} s", flush=True)
    report(out)


if __name__ == "__main__":
    main()
