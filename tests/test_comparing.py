"""What `compare` measures: a checkpoint's precisions, and targets beside the first; and what it refuses beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship import comparing, targets
from edgeship.errors import EdgeshipError, NotSupported, TextsInvalid, UsageError
from edgeship.measure.agreement.fidelity import NextTokens, summarise_likelihood
from edgeship.measure.agreement.reference import of_build
from edgeship.settings import Settings
from tests import checkpoints
from tests.measure import samples
from tests.packages import make_package

EXAMPLE = Path(__file__).parent.parent / "examples" / "triage"


def compared(settings: Settings, *named: Path | str, **options: Any) -> comparing.Comparison:
    return comparing.compare_targets([targets.resolve(name, settings) for name in named], settings=settings, **options)


def refused(settings: Settings, *named: Path | str, **options: Any) -> EdgeshipError:
    with pytest.raises(EdgeshipError) as caught:
        compared(settings, *named, **options)
    return caught.value


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two of one checkpoint; that any work begins fails the test."""

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(of_build, "reference", begun)
    return make_package(tmp_path / "one").folder, make_package(tmp_path / "other").folder


def test_what_tells_no_log_probabilities_is_refused_by_name(settings: Settings, packages: tuple[Path, Path]) -> None:
    error = refused(settings, packages[0], "foundry:phi")
    assert isinstance(error, NotSupported)
    assert "foundry:phi cannot be compared" in error.what


def test_a_server_is_no_reference(settings: Settings, packages: tuple[Path, Path]) -> None:
    error = refused(settings, "http://localhost:1/v1", packages[0])
    assert isinstance(error, NotSupported)
    assert "20 likeliest" in error.what


def test_one_alone_and_one_twice(settings: Settings, packages: tuple[Path, Path]) -> None:
    for named, what in (((packages[0],), "nothing to compare"), ((packages[0],) * 2, "named twice")):
        error = refused(settings, *named)
        assert isinstance(error, UsageError)
        assert what in error.what


def test_other_tokens_are_refused_with_the_first_of_them(settings: Settings, packages: tuple[Path, Path]) -> None:
    path = packages[1] / "tokenizer.json"
    document = json.loads(path.read_bytes())
    words = {number: word for word, number in document["model"]["vocab"].items()}
    document["model"]["vocab"] |= {words[7]: 8, words[8]: 7}
    path.unlink()
    checkpoints.write_json(path, document)
    error = refused(settings, *packages)
    assert isinstance(error, NotSupported)
    assert f"token 7 is {words[8]!r} there and {words[7]!r} here" in error.what
    assert error.where == str(packages[1])


def test_a_broken_texts_file_is_told_before_the_work(
    settings: Settings, packages: tuple[Path, Path], tmp_path: Path
) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": ', encoding="utf-8")
    assert isinstance(refused(settings, *packages, texts_file=texts), TextsInvalid)


def test_the_document_says_what_is_not_there() -> None:
    nll = np.ones(3)
    likelihood = summarise_likelihood([NextTokens(np.ones(3, np.bool_), nll, nll)])
    measured = samples.measurement(fidelity=samples.fidelity())
    each = comparing.Compared("int8", measured), comparing.Compared("http://there", likelihood=likelihood)
    found = comparing.Comparison("triage", "the checkpoint", "built-in questions", 2, 1, each).to_dict()
    assert found["schema"] == "edgeship/fidelity/1"
    assert found["texts"] == {"source": "built-in questions", "used": 2, "skipped": 1}
    edges = found["kld_histogram_edges_nats"]
    assert len(found["candidates"]["int8"]["fidelity"]["kld_counts"]) == len(edges) - 1
    assert found["candidates"]["http://there"]["likelihood"]["perplexity_ratio"] == 1
    assert "KLD takes the whole distribution" in found["candidates"]["http://there"]["kld_refused"]
    assert {"created", "machine", "edgeship"} <= json.loads(json.dumps(found)).keys()


@pytest.mark.slow
def test_precisions_and_packages_of_the_example(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its FP32 build, which needs no PyTorch; then one package beside the other."""
    from edgeship.cli import main

    def compare(*arguments: str) -> dict[str, Any]:
        assert main(["compare", *arguments, "--limit", "8", "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    checkpoint, texts = str(EXAMPLE / "checkpoint"), ["--texts", str(EXAMPLE / "eval.jsonl")]
    found = compare(checkpoint, "-p", "fp32", "-p", "int4", "--no-calibrate", "--reference", "fp32", *texts)
    assert found["schema"] == "edgeship/fidelity/1"
    assert found["reference"] == "its FP32 build"
    assert found["texts"] == {"source": str(EXAMPLE / "eval.jsonl"), "used": 8, "skipped": 0}
    fp32, int4 = (found["candidates"][name] for name in ("fp32", "int4"))
    assert fp32["fidelity"]["max_kld_nats"] < 1e-9
    assert fp32["fidelity"]["top1_agreement"] == fp32["fidelity"]["top5_agreement"] == 1
    assert int4["fidelity"]["mean_kld_nats"] > 1e-4
    assert int4["fidelity"]["errors"]["mean_kld_nats"] > 0
    assert int4["worst_tokens"][0]["kld_nats"] == int4["fidelity"]["max_kld_nats"]
    assert sum(int4["fidelity"]["kld_counts"]) == int4["fidelity"]["positions"]
    assert int4["size_bytes"] < fp32["size_bytes"]
    assert int4["speed"]["decode_tokens_per_s"]["median"] > 0
    assert list((settings.home / "work").iterdir()) == []

    folders = {name: str(tmp_path / name) for name in ("fp32", "int4")}
    for name, folder in folders.items():
        plain = ["--no-calibrate"] if name == "int4" else []
        assert main(["build", checkpoint, "-p", name, *plain, "--output", folder]) == 0
    capsys.readouterr()
    beside = compare(*folders.values(), *texts)
    assert beside["reference"] == folders["fp32"]
    assert beside["candidates"][folders["fp32"]]["fidelity"] is None
    again = beside["candidates"][folders["int4"]]["fidelity"]
    assert again["positions"] == int4["fidelity"]["positions"]
    assert again["mean_kld_nats"] == pytest.approx(int4["fidelity"]["mean_kld_nats"], rel=1e-4)
