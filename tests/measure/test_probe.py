from __future__ import annotations

import json
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from edgeship.engine.api import Prompt
from edgeship.errors import EdgeshipError, EngineFailed, MemoryShort
from edgeship.measure.agreement.reference import ScoredText, Text, do_job
from edgeship.measure.agreement.reference.of_checkpoint import reference
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.measurement import Measurement
from edgeship.measure.probe import ProbeOptions, probe
from edgeship.progress import silent
from edgeship.system import child, memory
from tests import scripted
from tests.measure.agreement.reference.test_reference import Bytes
from tests.scripted import VOCAB_SIZE, ScriptedEngine, write_script

SHORT = ProbeOptions(prompt_tokens=16, new_tokens=10, repeats=2, engine=scripted.ENGINE)
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise on Windows")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "package"
    made.mkdir()
    write_script(made, {"hello": "good day"}, context_tokens=256)
    (made / "model.onnx").write_bytes(b"x" * 1000)
    (made / "model.onnx.data").write_bytes(b"x" * 5000)
    return made


@pytest.fixture
def cases() -> tuple[EvalCase, ...]:
    hello = {"role": "user", "content": "hello"}
    return tuple(
        EvalCase.model_validate({"id": str(index), "messages": [hello], "expected": expected})
        for index, expected in enumerate(["good day", "good night", "good day", {"good": [1, None]}])
    )


def write_reference(path: Path, tokens: list[int]) -> Path:
    """A reference that says what the scripted engine says, but for the first scored position."""

    class Nearly(Bytes):
        def logits(self, tokens: Sequence[int], first_scored: int) -> Any:
            found = ScriptedEngine({}).score(tokens)[first_scored - 1 : -1]
            found[0] = 0.0
            return found

    order = {"conversations": [], "texts": [{"tokens": tokens}], "out": str(path), "budget_bytes": 10**6}
    do_job(Nearly(), order, silent)
    return path


def test_everything_of_one_package(folder: Path, cases: tuple[EvalCase, ...], tmp_path: Path) -> None:
    logits = write_reference(tmp_path / "reference.npz", [10, 10, 20, 20, 30])
    told: list[str] = []
    found = probe(
        folder,
        replace(SHORT, cases=cases, reference=logits),
        threads=1,
        progress=lambda message, _: told.append(message),
    )
    assert (found.threads, found.size_bytes) == (1, 6000)
    assert found.package_bytes == 6000 + (folder / "scripted.json").stat().st_size
    assert found.load_s > 0
    assert 0 < found.rss_after_load_bytes <= found.peak_memory_bytes
    assert (found.speed.prompt_tokens, found.speed.new_tokens, len(found.speed.runs)) == (16, 10, 2)
    assert found.evaluation is not None
    assert [(record.id, record.passed) for record in found.evaluation.records] == [
        ("0", True),
        ("1", False),
        ("2", True),
        ("3", False),
    ]
    assert found.fidelity is not None
    assert found.fidelity.positions == 4
    # uniform against one logit of 100 among VOCAB_SIZE
    odds = VOCAB_SIZE - 1 + np.exp(100.0)
    assert found.fidelity.max_kld_nats == pytest.approx(np.log(odds) - np.log(VOCAB_SIZE) - 100 / VOCAB_SIZE)
    assert found.fidelity.median_kld_nats == pytest.approx(0, abs=1e-12)
    worst = found.worst_tokens[0]
    assert (worst.position, worst.before, worst.actual.text) == (1, "\n", "\n")
    assert worst.kld_nats == found.fidelity.max_kld_nats
    assert "loading" in told
    assert any(message.startswith("evaluation") for message in told)


def test_only_what_is_asked_for(folder: Path) -> None:
    found = probe(folder, SHORT)
    assert found.fidelity is None
    assert found.evaluation is None
    assert found.threads >= 1
    assert 0 <= found.busy <= 1
    assert Measurement.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_reference_without_texts_says_nothing(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "empty.npz", texts=np.array(0))
    found = probe(folder, replace(SHORT, reference=tmp_path / "empty.npz"))
    assert (found.fidelity, found.worst_tokens) == (None, ())


def test_the_summary_leaves_single_answers_out(folder: Path, cases: tuple[EvalCase, ...]) -> None:
    summary = probe(folder, replace(SHORT, cases=cases)).summary()
    assert summary["evaluation"]["passed"] == 2
    assert not {"records", "failures"} & summary["evaluation"].keys()
    assert "runs" not in summary["speed"]
    assert "worst_tokens" not in summary
    json.dumps(summary)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands the peak down to children")
def test_the_memory_is_not_the_parents(folder: Path) -> None:
    ballast = np.ones(50_000_000)
    assert memory.peak_memory_bytes() > 400_000_000
    del ballast
    assert probe(folder, SHORT).peak_memory_bytes < 300_000_000


def test_a_folder_that_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"scripted\.json"):
        probe(tmp_path, ProbeOptions(engine=scripted.ENGINE))


@needs_signals
@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGSEGV, EngineFailed), (9, MemoryShort)],
)
def test_a_child_that_is_killed(folder: Path, number: int, kind: type[EdgeshipError]) -> None:
    write_script(folder, {}, delay_s=5.0)

    def kill(message: str, fraction: float | None = None) -> None:
        del message, fraction
        for process in psutil.Process().children():
            if "edgeship.measure.probe" in process.cmdline():
                process.send_signal(number)

    with pytest.raises(kind, match="the measuring process was") as caught:
        probe(folder, ProbeOptions(engine=scripted.ENGINE), progress=kill)
    assert caught.value.where == str(folder)


def test_a_fault_of_ours_keeps_its_traceback(folder: Path) -> None:
    # A context that is no number is found by none of the checks: a bug, as the child sees it.
    (folder / "scripted.json").write_text('{"answers": {}, "context_tokens": "many"}', encoding="utf-8")
    with pytest.raises(child.ChildFault, match="TypeError: ") as caught:
        probe(folder, ProbeOptions(engine=scripted.ENGINE))
    assert ", in measure\n" in "".join(traceback.format_exception(caught.value))


@pytest.mark.slow
def test_a_real_package_beside_its_original(tiny: Path, tmp_path: Path, cases: tuple[EvalCase, ...]) -> None:
    made = tmp_path / "fp32"
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(tiny), "-o", str(made), "-p", "fp32"]
    subprocess.run([*command, "-e", "cpu", "-c", str(tmp_path / "builder")], capture_output=True, check=True)
    conversation = [{"role": "user", "content": "hello world, how are you?"}]
    texts: list[Text] = [ScoredText(conversation, "order today " * 10), Prompt(tuple(range(3, 40)))]
    logits = reference(tiny, None, [], texts, tmp_path / "reference.npz").path
    found = probe(made, replace(SHORT, engine="genai", cases=cases, reference=logits), threads=2)
    # The same FP32 weights: any shift between rows and tokens would show.
    assert found.fidelity is not None
    assert found.fidelity.positions >= 20
    assert found.fidelity.max_kld_nats < 1e-6
    assert found.fidelity.top1_agreement == 1.0
    assert found.fidelity.perplexity_ratio == pytest.approx(1.0, abs=1e-4)
    assert found.fidelity.perplexity > 10
    assert found.evaluation is not None
    assert found.evaluation.pass_rate == 0.0
    assert found.speed.new_tokens == 10
    assert found.size_bytes > 300_000
    assert found.peak_memory_bytes >= found.rss_after_load_bytes > 10_000_000
