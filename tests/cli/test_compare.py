"""`compare`: what it shows, and options that mean nothing."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeship.cli import compare, main
from edgeship.comparing import Compared, Comparison
from edgeship.measure.agreement import scored_texts
from edgeship.measure.agreement.fidelity import NextTokens, summarise_likelihood
from edgeship.measure.agreement.worst_tokens import Wanted, WorstToken
from tests.measure.samples import fidelity, measurement
from tests.packages import make_package

WORST = WorstToken(
    text_number=18,
    position=40,
    kld_nats=0.5321,
    before="what is the \n intent " * 20,
    actual=Wanted(7, "other", 0.852),
    candidate_probability=0.355,
    reference=(Wanted(7, "other", 0.852), Wanted(8, "damaged", 0.142)),
    candidate=(Wanted(8, "damaged", 0.638), Wanted(7, "other", 0.355)),
)


def shown(capsys: pytest.CaptureFixture[str], *found: Compared, skipped: int = 0) -> str:
    compare._print(Comparison("triage", "the checkpoint in transformers", "my.jsonl", 48, skipped, found))
    said = capsys.readouterr()
    return said.out + said.err


def test_what_was_measured_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Comparison("one", "one", "one's own answers", 48, 0, (Compared("one", measurement()),))
    monkeypatch.setattr("edgeship.comparing.compare_targets", lambda *_, **__: found)
    folders = [str(make_package(tmp_path / name).folder) for name in ("one", "other")]
    out = tmp_path / "kept.json"
    assert main(["compare", *folders, "--out", str(out), "--json"]) == 0
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept == json.loads(capsys.readouterr().out)
    assert (kept["schema"], list(kept["candidates"])) == ("edgeship/fidelity/1", ["one"])
    assert main(["compare", *folders, "--out", str(tmp_path)]) == 2
    assert "that is a folder, and a file is to be written" in capsys.readouterr().err


def test_the_limit_is_that_of_the_texts() -> None:
    assert inspect.signature(compare.compare).parameters["limit"].default == scored_texts.LIMIT


def test_figures_of_each_candidate_and_where_the_worst_strays(capsys: pytest.CaptureFixture[str]) -> None:
    good = measurement(fidelity=fidelity(1e-6, 1.0), worst_tokens=(replace(WORST, kld_nats=0.1, text_number=3),))
    said = shown(
        capsys,
        Compared("fp16", good),
        Compared("int4", measurement(fidelity=fidelity(0.0123, 0.95), worst_tokens=(WORST,))),
    )
    assert "triage beside the checkpoint in transformers" in said
    assert "1.0e-06" in said
    assert "0.0123" in said
    assert "95.00" in said
    assert "over 200 tokens of 48 texts: my.jsonl" in said
    assert "int4 strays furthest at:" in said
    assert "0.532 nats, text 19, after: ..." in said
    assert "the intent what is the intent\n    reference" in said
    assert "reference  'other' 85.2 %, 'damaged' 14.2 %" in said
    assert "candidate  'damaged' 63.8 %, 'other' 35.5 %" in said


def test_a_server_has_no_kld_and_it_is_said_why(capsys: pytest.CaptureFixture[str]) -> None:
    nll = np.full(4, 0.5)
    likelihood = summarise_likelihood([NextTokens(np.ones(4, np.bool_), nll, nll + 0.1)])
    said = shown(capsys, Compared("one", measurement()), Compared("http://there", likelihood=likelihood), skipped=3)
    assert f"{np.exp(0.1):.4f}" in said
    assert "http://there has no KLD: a server tells its 20 likeliest tokens" in said
    assert "3 texts were left out" in said
    assert "strays" not in said


def test_packages_stand_beside_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    each = Compared("one", measurement()), Compared("other", measurement(fidelity=fidelity()))
    compare._print(Comparison("one", "one", "one's own answers", 48, 0, each))
    assert "\nbeside one\n" in capsys.readouterr().out


def test_texts_that_are_all_too_long_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no text fits into the context" in shown(capsys, Compared("int8", measurement()), skipped=5)


@pytest.mark.parametrize(
    ("targets", "option", "what"),
    [
        (2, ["-p", "int4"], "--precision is given, which is for checkpoints"),
        (2, ["--bits", "5"], "--bits is given, which is for checkpoints"),
        (2, ["--reference", "fp32"], "--reference is given, which is for checkpoints"),
        (2, ["--adapter", "lora"], "--adapter is given, which is for checkpoints"),
        (1, ["--model", "x"], "--model is given, which is for servers"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    targets: int, option: list[str], what: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["compare", *[str(tmp_path)] * targets, *option]) == 2
    assert what in capsys.readouterr().err


def test_a_target_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "nothing", "nowhere"]) == 4
    assert "nothing" in capsys.readouterr().err


def test_a_package_alone_is_no_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = make_package(tmp_path / "package").folder
    code = main(["compare", str(folder)])
    said = capsys.readouterr().err
    assert (code, str(folder) in said, "built already" in said) == (2, True, True), said
