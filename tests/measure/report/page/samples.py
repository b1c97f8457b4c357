"""Documents with something for every section of a page; every text of a user or a model in them is the given one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeship.measure import document
from edgeship.measure.document import Document
from edgeship.measure.report.comparison import Report
from tests.measure.samples import report


def kept(folder: Path, name: str, values: dict[str, Any]) -> Document:
    """The document, written and read again."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return document.read(path)


def head(kind: document.Kind, text: str, created: str) -> dict[str, Any]:
    return {
        "schema": document.schema(kind),
        "edgeship": "1.2.3",
        "created": created,
        "machine": {"cpu": text, "cores_usable": 2},
    }


def spread(p50: float | None, width: float = 0.1) -> dict[str, Any]:
    """Of a latency in seconds, as `bench` writes it."""
    interval = None if p50 is None else [p50 * (1 - width), p50 * (1 + width)]
    return {
        "mean": p50,
        "p50": p50,
        "p95": None,
        "p99": None,
        "needs": {"p95": 90},
        "interval": {"mean": interval, "p50": interval},
    }


def bench(
    text: str = "words", *, created: str = "2026-11-27T10:00:00Z", ttft_s: float = 0.2, clients: Sequence[int] = (1, 4)
) -> dict[str, Any]:
    return {
        **head("bench", text, created),
        "target": {"name": text, "kind": "package", "load_s": 0.5, "first_request": {"cold": {"ttft_s": 0.3}}},
        "workload": {"kind": "synthetic", "prompt_tokens": 128, "note": text},
        "levels": [
            {
                "name": f"concurrency {count}",
                "concurrency": count,
                "requests": 40,
                "errors": 1,
                "ttft_s": spread(ttft_s * count),
                "tpot_s": spread(0.01),
                "e2e_s": spread(None),
                "output_tokens_per_s": 100.0 * count,
                "output_tokens_per_s_interval": [90.0 * count, 110.0 * count],
                "requests_per_s": 2.0,
                "prompt_tokens": {"mean": 128.0},
                "goodput": {"share": 0.75},
                "cost": {
                    "rss_begin_bytes": 10**8,
                    "rss_peak_bytes": 2 * 10**8,
                    "rss_over_time": [[0.0, 10**8], [1.0, 2 * 10**8]],
                    "cpu_s_per_token": 0.001,
                    "cores": [0.5, 0.75],
                    "others": 0.3,
                    "client_late_p99_s": 0.001,
                },
                "warnings": [text],
                "error_kinds": [{"kind": "http", "what": text, "count": 1}],
                "refused": {"itl_s": text},
            }
            for count in clients
        ],
    }


def bench_pair(text: str = "words", *, created: str = "2026-11-27T10:00:00Z") -> dict[str, Any]:
    sides = {
        side: {key: value for key, value in bench(f"{text}{side}").items() if key in ("target", "workload", "levels")}
        for side in ("a", "b")
    }
    compared = {"unit": "s", "a": 0.2, "b": 0.1, "ratio": 0.5, "ratio_interval": [0.4, 0.6], "why": None}
    return {
        **head("bench-pair", text, created),
        **sides,
        "turns": 12,
        "loads": [{"name": text, "figures": {"ttft_p50": compared, "itl_p99": {"unit": "s", "why": text}}}],
        "conditions": [
            {"condition": "ttft_p50 > 1.1x", "load": text, "verdict": "fails", "why": None},
            {"condition": text, "load": text, "verdict": "undecided", "why": text},
        ],
        "outcome": "undecided",
        "warnings": [text],
    }


def evaluation(
    text: str = "words", *, created: str = "2026-11-27T10:00:00Z", passes: Sequence[bool] = (True, False) * 20
) -> dict[str, Any]:
    passed = sum(passes)
    cases = [f"{text}{number}" for number in range(len(passes))]
    return {
        **head("eval", text, created),
        "target": {"name": text},
        "settings": {"seed": 1},
        "cases": [{"id": case, "question": text, "expected": text, "digest": case} for case in cases],
        "ways": {
            "shipped": {
                "sampling": {"temperature": 0.7, "note": text},
                "stopped": text,
                "cases": len(passes),
                "passed": passed,
                "pass_rate": passed / len(passes),
                "pass_rate_95": {"low": 0.4, "high": 0.6},
                "by_slice": {f"{text}1": {"passed": 1, "cases": 2}, f"{text}2": {"passed": 1, "cases": 1}},
                "by_tag": {"a": {"passed": 1, "cases": 2}, "b": {"passed": 1, "cases": 1}},
                "by_assertion": {"equals": {"passed": 1, "cases": 2}, "is-json": {"passed": 1, "cases": 1}},
                "ttft": {"p50_ms": 10.0, "p95_ms": 20.0},
                "e2e": {"p50_ms": 100.0, "p95_ms": 200.0},
                "records": [
                    {
                        "id": case,
                        "passed": outcome,
                        "answer": text,
                        "reason": "" if outcome else text,
                        "prompt_tokens": 10 + number,
                        "ttft_s": 0.01 * (1 + number),
                    }
                    for number, (case, outcome) in enumerate(zip(cases, passes, strict=True))
                ],
                "repeats": [{"k": 2, "cases": 4, "all_pass": 0.5, "any_passes": 0.9}],
                "errors": [{"id": text, "attempt": 1, "code": "x", "what": text}],
            }
        },
        "baseline": {
            "max_drop": 0.03,
            "outcome": "undecided",
            "ways": {
                "shipped": {
                    "cases": len(passes),
                    "baseline_pass_rate": 0.6,
                    "pass_rate": 0.5,
                    "change": -0.1,
                    "interval": {"low": -0.2, "high": 0.0},
                    "lost": [cases[3]],
                    "gained": [],
                    "outcome": "undecided",
                }
            },
        },
    }


def fidelity(text: str = "words", *, created: str = "2026-11-27T10:00:00Z", nats: float = 0.01) -> dict[str, Any]:
    def candidate(part: float) -> dict[str, Any]:
        return {
            "size_bytes": int(10**9 * part),
            "speed": {"decode_tokens_per_s": {"median": 10 / part}},
            "fidelity": {
                "positions": 500,
                "mean_kld_nats": nats / part,
                "p99_kld_nats": 10 * nats / part,
                "top1_agreement": 0.9,
                "top1_agreement_95": {"low": 0.85, "high": 0.95},
                "perplexity_ratio": 1.1,
                "errors": {"mean_kld_nats": nats / 10, "perplexity_ratio": 0.01},
                "kld_counts": [0] * 20 + [400, 99, 0, 1] + [0] * 16,
            },
            "worst_tokens": [
                {
                    "text_number": 0,
                    "position": 4,
                    "kld_nats": 2.5,
                    "before": text,
                    "actual": {"text": text, "probability": 0.9},
                    "candidate_probability": 0.1,
                    "reference": [{"text": text, "probability": 0.9}],
                    "candidate": [{"text": text, "probability": 0.8}],
                }
            ],
        }

    return {
        **head("fidelity", text, created),
        "name": text,
        "reference": text,
        "texts": {"source": text, "used": 20},
        "candidates": {
            "int8": candidate(1.0),
            "int4": candidate(0.5),
            f"server {text}": {"likelihood": {"positions": 500, "top1_agreement": 0.8}, "kld_refused": text},
        },
    }


def verdict(text: str = "words", *, created: str = "2026-11-27T10:00:00Z", figure: float = 0.7) -> dict[str, Any]:
    def finding(name: str, outcome: str, **more: Any) -> dict[str, Any]:
        held = {"figure": figure, "bound": 0.8, "unit": "share", "interval": [figure - 0.1, figure + 0.1]}
        return {"name": name, "outcome": outcome, "told": text, "evidence": [], "took_s": 1.0, **held, **more}

    evidence = {"id": f"domain/{text}", "asked": text, "request": {"kind": "chat"}, "got": text, "expected": text}
    checks = {
        "domain": {
            "outcome": "fail",
            "title": text,
            "findings": [
                finding("threshold", "fail", evidence=[evidence] * 60),
                finding(text, "undecided", decided_by=text),
                finding("growth", "pass", figure=1.5, bound=2.0, unit=text, interval=None),
            ],
            "took_s": 12.5,
            "reason": None,
            "bounds": [{"name": "least", "value": 0.8, "default": 0.9}, {"name": text, "value": 5, "default": 5}],
            "why": text,
        },
        **{
            name: {"outcome": "skipped", "title": text, "findings": [], "took_s": 0.0, "reason": text, "bounds": []}
            for name in ("leaks", "edges")
        },
    }
    return {
        **head("verdict", text, created),
        "target": {"name": text, "kind": "package", "digest": "0123"},
        "outcome": "fail",
        "told": text,
        "complete": False,
        "took_s": 12.5,
        "off": {"leaks": text},
        "checks": checks,
    }


def shipped(made: Report | None = None, **changes: Any) -> dict[str, Any]:
    """What report.json holds."""
    values: dict[str, Any] = json.loads(json.dumps((made or report()).to_dict()))
    return values | changes
