"""Made-up measurements, and evaluation results from plain lists of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeship.measure.agreement.fidelity import Fidelity, Scores
from edgeship.measure.agreement.fidelity import summarise as summarise_scores
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.choice.choose import choose
from edgeship.measure.evaluation.evaluate import EvalRecord, EvalResult, summarise
from edgeship.measure.measurement import Measurement
from edgeship.measure.report.comparison import Candidate, Report
from edgeship.measure.speed import Range, Speed, SpeedRun
from edgeship.recipe import Precision, Recipe


def evaluation(outcomes: Sequence[bool], *, answer: str = "no", prefix: str = "case") -> EvalResult:
    """An evaluation whose n-th case ends as the n-th outcome says; even cases are of the slice seen."""
    cases = [
        EvalCase.model_validate(
            {
                "id": f"{prefix}{index}",
                "slice": "new" if index % 2 else "seen",
                "messages": [{"role": "user", "content": "hello"}],
                "expected": "yes",
            }
        )
        for index in range(len(outcomes))
    ]
    records = [
        EvalRecord(case.id, case.slice, passed, "yes" if passed else answer, "stop", 20, 5, 0.01, 0.05, score=passed)
        for case, passed in zip(cases, outcomes, strict=True)
    ]
    return summarise(cases, records, max_tokens=20, wall_s=1.0)


def fidelity(mean_kld_nats: float = 0.01, top1_agreement: float = 0.98) -> Fidelity:
    """Agreement with these figures over 200 positions, each a text of its own."""
    agrees = np.arange(200) < round(200 * top1_agreement)
    one = np.ones(1)
    return summarise_scores([Scores(np.array([agree]), one, 1.1 * one, mean_kld_nats * one, one) for agree in agrees])


def speed(decode_tokens_per_s: float = 50.0) -> Speed:
    """Speed around a figure."""
    run = SpeedRun(64, 3.0, 3.0 + 63 / decode_tokens_per_s)
    decode = Range(decode_tokens_per_s, decode_tokens_per_s * 0.9, decode_tokens_per_s * 1.1)
    return Speed(512, 64, 512, 64, Range(170.0, 160.0, 180.0), decode, Range(3.0, 2.9, 3.1), (run,) * 3)


def measurement(size_bytes: int = 1000, **changes: object) -> Measurement:
    """A measurement with no fidelity and no evaluation unless given."""
    made = Measurement(2, size_bytes, size_bytes + 500, 0.8, 3 * size_bytes, 4 * size_bytes, speed())
    return replace(made, **changes)  # type: ignore[arg-type]


def report(*, answer: str = '{"intent": "refund"}') -> Report:
    """A report of four precisions, of which INT8 is chosen."""
    outcomes = {
        Precision.FP32: [index >= 10 for index in range(320)],
        Precision.FP16: [index >= 10 for index in range(320)],
        Precision.INT8: [index >= 12 for index in range(320)],
        Precision.INT4: [index >= 31 for index in range(320)],
    }
    klds = {Precision.FP32: 1e-9, Precision.FP16: 2e-6, Precision.INT8: 0.0021, Precision.INT4: 0.081}
    measured = {
        precision: measurement(
            int(494e6 * precision.bits / 8),
            evaluation=evaluation(passed, answer=answer),
            fidelity=fidelity(klds[precision], 1.0 - klds[precision]),
            speed=speed(220.0 / precision.bits**0.5),
        )
        for precision, passed in outcomes.items()
    }
    baseline = measured[Precision.FP32]
    return Report(
        created="2026-11-22T12:00:00Z",
        name="triage",
        checkpoint={
            "source": "examples/triage/checkpoint",
            "architecture": "Qwen2ForCausalLM",
            "parameters": 1_800_000,
        },
        machine={"cpu": "made up", "cores_usable": 2, "system": "Linux x86_64"},
        tools={"onnxruntime": "1.31.0", "onnxruntime-genai": "0.18.0"},
        candidates=tuple(
            Candidate(precision.value, precision, Recipe(precision=precision).to_key(), found)
            for precision, found in measured.items()
        ),
        choice=choose({key.value: value for key, value in measured.items() if key is not Precision.FP32}, baseline),
        reference="the checkpoint in transformers",
        texts="the answers that 48 cases expect",
        template_fidelity={"conversations": 8, "mismatches": 0},
        commands=(("Chat with it", "edgeship model run triage"),),
    )


def bare_report() -> Report:
    """One precision, of which only size and speed are known."""
    return replace(
        report(),
        candidates=(Candidate("int4", Precision.INT4, {}, measurement()),),
        choice=choose({"int4": measurement()}, None),
        reference=None,
        template_fidelity=None,
        commands=(),
    )
