"""The whole road on real components: build, measure, choose, install, check, report."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edgeship
from edgeship import preflight, shipping
from edgeship.builder import stream
from edgeship.builder.nodes import DATA_NAME
from edgeship.checkpoint import open_checkpoint
from edgeship.cli import main
from edgeship.engine.answer import ask
from edgeship.errors import EngineFailed
from edgeship.measure.cases import evalset
from edgeship.measure.choice.choose import Thresholds, Undecided, choose
from edgeship.measure.evaluation.document import read_baseline
from edgeship.measure.evaluation.evaluate import greedy
from edgeship.package import manifest
from edgeship.progress import Progress
from edgeship.recipe import Recipe, named_recipe
from edgeship.release_gate import ReleaseGate
from edgeship.settings import Settings
from edgeship.shipping import Shipped
from edgeship.store import listing, verification
from edgeship.system.shell import our_install
from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.check import Check
from edgeship.validate.gate import Gate
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Finding, Outcome
from tests import checkpoints
from tests.measure.samples import evaluation, measurement

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parent.parent / "examples" / "triage"
UNGATED = ["--gate-effort", "off"]
# A checkpoint of random weights is not good at anything: these let it pass.
LENIENT = ["--max-kld", "10", "--min-top1", "0", *UNGATED]
# Loading PyTorch takes ten seconds: ships whose reference is beside the point take the FP32 build for it.
WITHOUT_PYTORCH = ["--reference", "fp32", *LENIENT]


def ship(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    ungated = [] if "--gate-effort" in arguments else UNGATED
    code = main(["ship", *arguments, *ungated, "--json"])
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, result


def test_the_example_ships_as_a_merged_checkpoint(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(EXAMPLE / "checkpoint"), "--eval", str(EXAMPLE / "eval.jsonl"), "--name", "triage"]
    code, result = ship(capsys, *arguments, "--gate-effort", "quick")
    assert code == 0
    assert result["holds"]
    assert result["gate"]["checks"]["domain"]["outcome"] == "pass"
    assert result["gate"]["outcome"] != "fail"
    # Of 324 cases INT4 loses too many to be sure, and too few to be refused.
    assert result["outcome"] == ("undecided" if result["chosen"] == "int4" else "holds")
    assert result["verdict"]["outcome"] == result["outcome"]
    assert set(result["front"]) <= set(result["candidates"])
    assert result["chosen"] in ("int4", "int8", "fp16")
    assert result["candidates"]["fp32"]["evaluation"]["pass_rate"] >= 0.9
    assert result["candidates"]["fp32"]["fidelity"]["top1_agreement"] >= 0.999
    sizes = {name: candidate["size_bytes"] for name, candidate in result["candidates"].items()}
    assert sizes["int4"] < sizes["int8"] < sizes["fp32"]
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert json.loads(result["answer"]).keys() == json.loads(first_expected()).keys()

    assert manifest.verify(manifest.read(Path(result["folder"]))) == []
    record = listing.find(settings.cache_dir, result["package"]).record
    assert record is not None
    assert record.verdict == result["verdict"]
    assert record.measurements
    report = json.loads(Path(result["report"]["json"]).read_bytes())
    records = next(c for c in report["candidates"] if c["precision"] == "int4")["measurement"]["evaluation"]["records"]
    assert len(records) == 324

    again_code, again = ship(capsys, *arguments, "--precision", "fp32")
    assert again_code == 0
    assert again["package"] == "triage-fp32:1"


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often this process designed a model, read an eval file, and read a file's digest, by its name."""
    counts: Counter[str] = Counter()
    design, read_evalset, file_digest = stream.design, evalset.read_evalset, hashlib.file_digest

    def designing(*arguments: Any) -> Any:
        counts["design"] += 1
        return design(*arguments)

    def reading(path: Path, *rest: Any) -> Any:
        counts["eval file"] += 1
        return read_evalset(path, *rest)

    def digesting(file: Any, digest: Any) -> Any:
        counts[Path(file.name).name] += 1
        return file_digest(file, digest)

    monkeypatch.setattr(stream, "design", designing)
    monkeypatch.setattr(preflight, "read_evalset", reading)
    monkeypatch.setattr(hashlib, "file_digest", digesting)
    return counts


def test_a_build_does_everything_once(tiny: Path, tmp_path: Path, done: Counter[str]) -> None:
    assert main(["build", str(tiny), "--output", str(tmp_path / "out")]) == 0
    assert [done[name] for name in ("design", "model.safetensors", "model.onnx.data")] == [1, 1, 1]


def test_a_ship_does_everything_once(capsys: pytest.CaptureFixture[str], done: Counter[str]) -> None:
    arguments = ["--eval", str(EXAMPLE / "eval.jsonl"), "--eval-limit", "8"]
    code, result = ship(capsys, str(EXAMPLE / "checkpoint"), "-p", "int8", "-p", "int4", *arguments, *WITHOUT_PYTORCH)
    # Eight cases are too few to show that a pass rate holds.
    assert (code, result["outcome"], result["verdict"]["undecided"]) == (0, "undecided", "take")
    # Two candidates and the reference are built, and of the one that is installed the bytes are compared once more.
    assert (done["design"], done["model.onnx.data"]) == (3, 3 + 1)
    assert (done["model.safetensors"], done["eval file"]) == (1, 1)


# Run by Python before anything else where it is found: PyTorch and its like are not there, though they are installed.
ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "peft", "safetensors", "accelerate"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize("adapter", [False, True])
def test_nothing_of_pytorch_is_needed(adapter: bool, tiny: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "sitecustomize.py").write_text(ABSENT, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'absent'}{os.pathsep}{os.environ['PYTHONPATH']}"}
    proof = subprocess.run([sys.executable, "-c", "import torch"], env=environment, capture_output=True, check=False)
    assert b"No module named 'torch'" in proof.stderr
    command = [sys.executable, "-m", "edgeship", "ship", str(tiny), *LENIENT, "--json"]
    command += ["--adapter", str(tiny_adapter)] if adapter else []
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["reference"] == "its FP32 build"
    assert sorted(result["candidates"]) == ["fp16", "fp32", "int4", "int8"]
    # FP32 beside itself: what was measured once is measured again.
    assert result["candidates"]["fp32"]["fidelity"]["max_kld_nats"] < 1e-9
    assert result["candidates"]["fp32"]["fidelity"]["top1_agreement"] == 1.0
    assert 0 < result["candidates"]["int8"]["fidelity"]["mean_kld_nats"] < 0.1
    described = subprocess.run(
        [sys.executable, "-m", "edgeship", "model", "info", result["package"]],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "mean KLD from its FP32 build" in described.stdout
    refused = subprocess.run(
        [*command, "--reference", "transformers"], env=environment, capture_output=True, check=False
    )
    error = json.loads(refused.stdout)["error"]
    assert (refused.returncode, error["code"]) == (5, "dependency-missing")
    assert our_install("original") in error["hint"]


def test_both_references_say_the_same(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tiny), "-p", "int8", "-p", "int4", *LENIENT]
    results = [ship(capsys, *arguments, "--reference", name)[1] for name in ("transformers", "fp32")]
    assert [result["reference"] for result in results] == ["the checkpoint in transformers", "its FP32 build"]
    for precision in ("int8", "int4"):
        theirs, ours = (result["candidates"][precision]["fidelity"] for result in results)
        assert ours["positions"] == theirs["positions"]
        assert ours["mean_kld_nats"] == pytest.approx(theirs["mean_kld_nats"], rel=0.01)


def test_without_an_eval_the_checkpoints_own_answers_decide_alike_each_time(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [ship(capsys, str(tiny), "-p", "int8", *WITHOUT_PYTORCH)[1] for _ in range(2)]
    assert results[0]["texts"].startswith("the checkpoint's own answers to ")
    first, second = (result["candidates"]["int8"]["fidelity"] for result in results)
    assert first == second
    assert first["positions"] >= 40, "one for each question at least, though this one repeats itself at once"


def test_int4_gets_bits_until_it_holds(tiny: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the plain one does not; the same command again builds nothing."""
    plain = ship(capsys, str(tiny), "-p", "int4", *WITHOUT_PYTORCH)[1]["candidates"]["int4"]["fidelity"]
    limit = ["--max-kld", str(plain["mean_kld_nats"] / 3), "--min-top1", "0"]
    arguments = [str(tiny), "-p", "int4", "--reference", "fp32", "--escalate", *limit]
    code, result = ship(capsys, *arguments)
    assert (code, result["holds"]) == (0, True)
    assert result["package"] == f"tiny-{result['chosen']}:1"
    asked, *tried = sorted(result["escalation"], key=lambda attempt: attempt["bits"])
    assert (asked["label"], asked["good_enough"]) == ("int4", False)
    assert [attempt["label"] for attempt in tried] == [f"int4-{attempt['bits']:g}bits" for attempt in tried]
    assert result["chosen"] == next(attempt["label"] for attempt in tried if attempt["good_enough"])
    assert any("bits a weight; at " in reason for reason in result["verdict"]["reasons"])
    report = json.loads(Path(result["report"]["json"]).read_bytes())
    assert report["escalation"] == result["escalation"]

    steps = {path.name for path in settings.builds_dir.iterdir()}
    again = ship(capsys, *arguments)[1]
    assert (again["escalation"], again["new"]) == (result["escalation"], False)
    assert {path.name for path in settings.builds_dir.iterdir()} == steps


def test_int4_that_only_just_does_not_hold_gets_half_a_bit_more(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [str(tiny), "-p", "int4", "-p", "int8", "--reference", "fp32"]
    plain = ship(capsys, *asked, *LENIENT)[1]["candidates"]["int4"]["fidelity"]
    agreed = round(plain["top1_agreement"] * plain["positions"])
    just_more = ["--max-kld", "9", "--min-top1", str((agreed + 0.5) / plain["positions"])]
    result = ship(capsys, *asked, *just_more)[1]
    first, *tried = sorted(result["escalation"], key=lambda attempt: attempt["bits"])
    assert (first["label"], first["good_enough"]) == ("int4", False)
    assert len(tried) == 1
    assert first["bits"] < tried[0]["bits"] <= first["bits"] + 1
    far = ["--max-kld", "9", "--min-top1", "1"]
    assert ship(capsys, *asked, *far)[1]["escalation"] == []


def test_where_no_budget_holds_all_tries_are_told(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    never = ["--max-kld", "0", "--reference", "fp32", "--escalate"]
    code, result = ship(capsys, str(tiny), "-p", "int4", *never)
    assert (code, result["package"]) == (1, None)
    assert [attempt["good_enough"] for attempt in result["escalation"]] == [False] * len(result["candidates"])
    assert max(attempt["bits"] for attempt in result["escalation"]) == 8.0
    assert result["verdict"]["reasons"][-1].startswith("INT4 is not good enough at ")
    # What is known to fail with as many bits is not tried with fewer.
    code, result = ship(capsys, str(tiny), "-p", "int8", "-p", "int4", *never)
    assert (code, sorted(result["candidates"])) == (1, ["int4", "int8"])
    assert [attempt["label"] for attempt in result["escalation"]] == ["int4"]


@dataclass(frozen=True)
class Road:
    """A ship up to where it asks what to try next: INT4 lost some of the cases, of which FP32 passes all."""

    lost: int
    cases: int = 324
    escalate: bool = False
    undecided: Undecided = "take"
    recipe: Recipe = field(default_factory=lambda: named_recipe("int4", {}, where="test"))

    def next_bits(self) -> float | None:
        """How many bits INT4 gets that is tried next; None where nothing is."""
        baseline = measurement(evaluation=evaluation([True] * self.cases))
        found = measurement(evaluation=evaluation([index >= self.lost for index in range(self.cases)]))
        shipment: Any = SimpleNamespace(
            recipes=(self.recipe,), escalate=self.escalate, checkpoint=SimpleNamespace(parameters=1000)
        )
        build = SimpleNamespace(files={DATA_NAME: SimpleNamespace(size_bytes=540)})
        made: Any = {"int4": SimpleNamespace(recipe=self.recipe, build=build)}
        choice = choose({"int4": found}, baseline, undecided=self.undecided)
        another = shipping._another(shipment, made, {"int4": found}, choice)
        return another.bits if another else None


@pytest.mark.parametrize(
    ("road", "bits"),
    [
        (Road(lost=0), None),  # it holds
        (Road(lost=5), None),  # it is undecided, and taken
        (Road(lost=5, undecided="refuse"), 5.0),
        (Road(lost=8), 5.0),  # it is undecided, and looks too bad
        (Road(lost=40), None),  # it fails
        (Road(lost=8, recipe=named_recipe("int4-fast", {"name": "int4"}, where="test")), None),
        (Road(lost=5, escalate=True), None),
        (Road(lost=5, escalate=True, undecided="refuse"), 6.5),
        (Road(lost=40, escalate=True), 6.5),
        # 50 cases cannot show a margin of 2 points, however many bits there are.
        (Road(lost=0, cases=50, escalate=True, undecided="refuse"), None),
        (Road(lost=2, cases=50, escalate=True), 6.5),
    ],
)
def test_what_is_not_good_enough_gets_more_bits(road: Road, bits: float | None) -> None:
    assert road.next_bits() == bits


def test_recipes_of_one_precision_ship_side_by_side(
    tiny: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("fp32", "int4-fast", "int4-small", "int4")
    result = ship(capsys, str(tiny), *(word for name in names for word in ("-p", name)), *WITHOUT_PYTORCH)[1]
    sizes = {name: result["candidates"][name]["size_bytes"] for name in names}
    assert result["chosen"] == min(sizes, key=lambda name: sizes[name])
    assert [entry.name for entry in listing.entries(settings.cache_dir)] == [f"tiny-{result['chosen']}"]
    report = json.loads(Path(result["report"]["json"]).read_bytes())
    assert [(found["label"], found["precision"]) for found in report["candidates"]] == [
        (name, name.partition("-")[0]) for name in names
    ]


def first_expected() -> str:
    with (EXAMPLE / "eval.jsonl").open(encoding="utf-8") as lines:
        expected: str = json.loads(next(lines))["expected"]
    return expected


def test_the_example_ships_as_base_and_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    code, result = ship(
        capsys,
        *(str(EXAMPLE / "base"), "--adapter", str(EXAMPLE / "adapter"), "--name", "triage-lora"),
        *("--eval", str(EXAMPLE / "eval.jsonl"), "--eval-limit", "60"),
        # The adapter alone is the weaker of the two examples: its README says by how much.
        *("--min-pass-rate", "0.6", "--max-drop", "0.1", "--precision", "fp32", "--precision", "int8"),
    )
    assert code == 0
    assert result["candidates"]["fp32"]["evaluation"]["pass_rate"] >= 0.65
    assert result["candidates"]["fp32"]["fidelity"]["top1_agreement"] >= 0.999
    assert manifest.read(Path(result["folder"])).manifest.adapter


def test_an_unchanged_ship_installs_nothing_new_and_a_changed_one_does(
    tiny: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tiny), "--precision", "int4", *WITHOUT_PYTORCH]
    first = ship(capsys, *arguments)[1]
    assert (first["package"], first["new"]) == ("tiny-int4:1", True)
    second = ship(capsys, *arguments)[1]
    assert (second["package"], second["new"]) == ("tiny-int4:1", False)
    third = ship(capsys, *arguments, "--block-size", "64")[1]
    assert (third["package"], third["new"]) == ("tiny-int4:2", True)
    assert [entry.ref for entry in listing.entries(settings.cache_dir)] == ["tiny-int4:1", "tiny-int4:2"]


def test_when_none_holds_nothing_is_installed_and_there_is_a_report(
    tiny: Path, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    question = {"id": "1", "messages": [{"role": "user", "content": "hello"}], "expected": "what it never says"}
    (tmp_path / "eval.jsonl").write_text(json.dumps(question) + "\n", encoding="utf-8")
    code, result = ship(
        capsys, str(tiny), "--eval", str(tmp_path / "eval.jsonl"), "-p", "fp32", "-p", "int4", "--report", str(tmp_path)
    )
    assert (code, result["holds"], result["package"]) == (1, False, None)
    assert "checkpoint itself" in " ".join(result["verdict"]["reasons"])
    assert listing.entries(settings.cache_dir) == []
    assert (tmp_path / "report.html").stat().st_size > 1000


@dataclass(frozen=True)
class RightAnswers(Bounds):
    share: float = bound(0.0, "So many of the cases are answered right.")


def answers_right(subject: Subject, bounds: RightAnswers, _: Progress) -> Iterator[Finding]:
    """Asks the package itself, and counts what FP32 had answered right."""
    cases = subject.against.cases
    right = [evalset.passes(case, ask(subject.chat, case.asked, greedy(200, None)).text) for case in cases]
    share = sum(right) / len(cases)
    assert isinstance(subject.against.original, Path)
    assert subject.against.original_build is not None
    assert manifest.read(Path(subject.against.original_build.name)).manifest.recipe["precision"] == "fp32"
    before = read_baseline(subject.against.original)["ways"]["greedy"]["pass_rate"]
    outcome: Outcome = "pass" if share >= bounds.share else "fail"
    told = f"{share:.0%} of the answers are right, {before:.0%} of FP32's, and {bounds.share:.0%} is the bound."
    yield Finding("right-answers", outcome, told, share, bounds.share)


def test_what_fails_the_release_gate_is_installed_by_force_alone(settings: Settings) -> None:
    """By a bound that no model reaches."""
    check = Check("domain", "Answers right", RightAnswers, answers_right)
    checkpoint = open_checkpoint(str(EXAMPLE / "checkpoint"))

    def gated(share: float, *, force: bool = False) -> Shipped:
        release = ReleaseGate(Gate({"domain": RightAnswers(share)}), force=force, checks=(check,))
        return shipping.ship(
            checkpoint,
            settings=settings,
            recipes=[named_recipe(name, {}, where="test") for name in ("fp32", "int8")],
            eval_file=EXAMPLE / "eval.jsonl",
            eval_limit=8,
            reference="fp32",
            gate=release,
        )

    refused = gated(1.01)
    assert (refused.package, refused.report.choice.chosen, refused.report.outcome) == (None, "int8", "fails")
    why = "100% of the answers are right, 100% of FP32's, and 101% is the bound"
    assert refused.report.reasons[-1] == f"INT8 fails the release gate's check domain: {why}"
    kept = json.loads((refused.paths.json.parent / "verdict-int8.json").read_bytes())
    assert kept == json.loads(json.dumps(refused.verdict))
    assert listing.entries(settings.cache_dir) == []

    forced = gated(1.01, force=True).package
    assert forced is not None
    (found,) = listing.entries(settings.cache_dir)
    assert (found.ref, found.gate, forced.gate) == (forced.ref, "failed, forced", "failed, forced")

    mended = gated(0.5)
    assert (mended.new, mended.report.outcome) == (False, "undecided")  # by 8 cases
    (found,) = listing.entries(settings.cache_dir)
    assert (found.ref, found.gate) == (forced.ref, "pass")


def too_small(subject: Subject, _: Bounds, __: Progress) -> Iterator[Finding]:
    """Of a package in eight bits alone."""
    assert subject.folder
    precision = manifest.read(subject.folder).manifest.recipe["precision"]
    yield Finding("size", "fail" if precision == "int8" else "pass", f"It has {precision}.")


def test_where_the_release_gate_refuses_one_the_next_is_installed(tiny: Path, settings: Settings) -> None:
    notes: list[str] = []
    check = Check("format", "Is large enough", Bounds, too_small)
    shipped = shipping.ship(
        open_checkpoint(str(tiny)),
        settings=settings,
        recipes=[named_recipe(name, {}, where="test") for name in ("fp32", "fp16", "int8")],
        thresholds=Thresholds(max_mean_kld_nats=10, min_top1_agreement=0),
        reference="fp32",
        gate=ReleaseGate(checks=(check,)),
        progress=lambda text, _: notes.append(text),
    )
    assert (shipped.report.choice.chosen, [gate.label for gate in shipped.report.refused]) == ("fp16", ["int8"])
    assert [(entry.name, entry.gate) for entry in listing.entries(settings.cache_dir)] == [("tiny-fp16", "pass")]
    why = "INT8 fails the release gate's check format: It has int8"
    assert f"note: {why}" in notes
    assert why in shipped.report.reasons
    report = json.loads(shipped.paths.json.read_bytes())
    assert [(gate["label"], gate["outcome"], gate["installed"]) for gate in report["gates"]] == [
        ("int8", "fail", False),
        ("fp16", "pass", True),
    ]
    folder = shipped.paths.json.parent
    verdicts = [json.loads((folder / f"verdict-{label}.json").read_bytes()) for label in ("int8", "fp16")]
    assert [verdict["target"]["name"] for verdict in verdicts] == ["tiny-int8", "tiny-fp16"]
    assert shipped.verdict is not None
    assert shipped.verdict["outcome"] == "pass"


def test_the_last_line_works_as_printed_in_a_new_shell(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cache = str(tmp_path / "my models")
    assert main(["ship", str(tiny), "-p", "int4", *WITHOUT_PYTORCH, "--cache-dir", cache]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("ask once:  ")
    command = line.removeprefix("ask once:").strip()
    done = subprocess.run(command + " --max-tokens 2", shell=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_package_is_run_by_name_once_and_by_pipe(tiny: Path, own_home: Path) -> None:
    assert main(["ship", str(tiny), "--precision", "int4", *WITHOUT_PYTORCH]) == 0
    command = [sys.executable, "-m", "edgeship", "model", "run", "tiny-int4", "--max-tokens", "5"]
    asked = subprocess.run([*command, "hello", "--json"], capture_output=True, check=True, cwd=own_home)
    answer = json.loads(asked.stdout)
    assert 1 <= answer["usage"]["completion_tokens"] <= 5
    piped = subprocess.run([*command, "--temperature", "0"], input=b"hello", capture_output=True, check=True)
    assert piped.stdout.endswith(b"\n")
    nothing = subprocess.run(command, input=b"", capture_output=True, check=False)
    assert nothing.returncode == 2


# What ships say on their way, from the first step to the last: where to interrupt them.
_ORIGINAL = "original: loading"
STEPS = [_ORIGINAL, "build fp32", "template", "measure fp32", "check tiny-fp32"]


def reference_of(step: str) -> list[str]:
    """The options of a ship that comes to this step, as quickly as it can."""
    return LENIENT if step == _ORIGINAL else WITHOUT_PYTORCH


def signalled(checkpoint: Path, step: str, number: int) -> tuple[int, str, str]:
    """A ship that gets a signal, with its children as a terminal does it, when it says `step`.

    Exit status, stdout, and what it said from there on.
    """
    if sys.platform == "win32":
        pytest.skip("signals as POSIX has them")
    command = [sys.executable, "-m", "edgeship", "ship", str(checkpoint), "-p", "fp32", *reference_of(step)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr
        assert process.stdout
        heard = next((line for line in process.stderr if f"] {step}" in line), None)
        assert heard, f"it never said {step!r}"
        os.killpg(process.pid, number)
        said, out = process.stderr.read(), process.stdout.read()
        return process.wait(60), out, said


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_ship_goes_on_where_it_was(
    step: str, tiny: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    if sys.platform == "win32":
        pytest.skip("signals as POSIX has them")
    signalled(tiny, step, signal.SIGKILL)
    assert all(entry.problem is None for entry in listing.entries(settings.cache_dir))
    code, result = ship(capsys, str(tiny), "-p", "fp32", *reference_of(step))
    assert (code, result["holds"]) == (0, True)
    assert all(found.outcome == "ok" for found in verification.verify(settings.cache_dir))
    assert list((settings.home / "work").iterdir()) == []
    assert not [path for path in settings.builds_dir.iterdir() if path.name.startswith(".tmp-")]


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_ends_a_ship_without_a_trace(step: str, tiny: Path, settings: Settings) -> None:
    status, out, said = signalled(tiny, step, signal.SIGINT)
    # Python may end by the signal itself, where it interrupted an `exec`; shells call both 130.
    assert status in (130, -signal.SIGINT), said
    assert "Traceback" not in said
    assert "interrupted" in said
    assert out == ""
    assert listing.entries(settings.cache_dir) == []
    assert list((settings.home / "work").glob("*")) == []


def test_a_package_that_fails_its_check_is_not_left_in_the_cache(
    tiny: Path, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version before it stays, and is the latest again."""
    code, _ = ship(capsys, str(tiny), "-p", "int8", "--name", "same", *WITHOUT_PYTORCH)
    assert code == 0

    def fails(*_: object, **__: object) -> None:
        raise EngineFailed("it does not load", hint="Wait.")

    # Measuring has a process of its own: what fails is the check alone.
    monkeypatch.setattr("edgeship.first_run.load_chat", fails)
    code, result = ship(capsys, str(tiny), "-p", "int4", *WITHOUT_PYTORCH)
    assert (code, result["error"]["code"]) == (5, "engine-failed")
    code, result = ship(capsys, str(tiny), "-p", "int8", "--name", "same", *WITHOUT_PYTORCH)
    assert (code, result["error"]["code"]) == (5, "engine-failed")
    assert [entry.ref for entry in listing.entries(settings.cache_dir)] == ["same-int8:1"]


def test_two_ships_of_the_same_name_at_once(tiny: Path, settings: Settings) -> None:
    command = [sys.executable, "-m", "edgeship", "ship", str(tiny), "-p", "int4", *WITHOUT_PYTORCH, "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(json.loads(out)["new"] for out, _ in outputs) == [False, True]
    assert [entry.ref for entry in listing.entries(settings.cache_dir)] == ["tiny-int4:1"]


def test_a_wrong_template_stops_before_the_other_candidates(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tokenizer that transformers reads otherwise than tokenizer.json says."""
    folder = checkpoints.make_checkpoint(tmp_path / "odd")
    tokenizer = json.loads((folder / "tokenizer.json").read_bytes())
    tokenizer["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    code = main(["ship", str(folder), "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (code, error["code"]) == (6, "template-mismatch")
    assert "conversation 'one question', token" in error["what"]
    assert listing.entries(settings.cache_dir) == []
    assert len([path for path in settings.builds_dir.iterdir() if (path / "step.json").exists()]) == 1


@pytest.mark.parametrize(
    ("generation", "said"),
    [
        ({}, "as shipped it answers greedily, as it was measured"),
        (
            {"do_sample": True, "temperature": 0.5},
            "as shipped it answers by samples (temperature 0.5, top_p 1.0,",
        ),
    ],
)
def test_the_verdict_says_how_the_package_answers(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], generation: dict[str, object], said: str
) -> None:
    checkpoints.write_json(tiny / "generation_config.json", generation)
    case = {"id": "1", "messages": [{"role": "user", "content": "hello"}], "expected": "what it never says"}
    (tmp_path / "eval.jsonl").write_text(json.dumps(case) + "\n", encoding="utf-8")
    options = ["--eval", str(tmp_path / "eval.jsonl"), "-p", "int4", "--reference", "fp32", "--min-pass-rate", "0"]
    result = ship(capsys, str(tiny), *options)[1]
    assert any(reason.startswith(said) for reason in result["verdict"]["reasons"])


@pytest.mark.slow
def test_a_ship_under_a_schema_says_so_also_from_python(tiny: Path, tmp_path: Path) -> None:
    case = {"id": "1", "messages": [{"role": "user", "content": "hello"}], "expected": {"a": True}}
    (tmp_path / "eval.jsonl").write_text(json.dumps(case) + "\n", encoding="utf-8")
    schema = {"type": "object", "properties": {"a": {"const": True}}, "required": ["a"], "additionalProperties": False}
    how: dict[str, Any] = {"recipes": "int4", "reference": "fp32", "thresholds": Thresholds(min_pass_rate=0)}
    how["gate_effort"] = "off"  # which random weights do not pass
    shipped = edgeship.ship(tiny, eval=tmp_path / "eval.jsonl", schema=schema, report=tmp_path / "report", **how)
    assert shipped.package is not None
    assert "held to a JSON schema, as --schema does" in shipped.report.choice.reasons[-1]
    assert json.loads(shipped.paths.json.read_text(encoding="utf-8"))["constraint"]["text"] == json.dumps(schema)


def test_texts_are_called_answers_of_cases_only_where_cases_expect_answers(tmp_path: Path) -> None:
    asked = '{"messages": [{"role": "user", "content": "a"}], %s}'
    reference: Any = SimpleNamespace(texts_used=1)
    for says, told in (
        ('"expected": "b"', "the answers that 1 cases expect"),
        ('"assert": [{"type": "contains", "value": "b"}]', "the checkpoint's own answers to 1 built-in questions"),
    ):
        (tmp_path / "cases.jsonl").write_text(asked % says, encoding="utf-8")
        assert shipping._texts_in_words(evalset.read_evalset(tmp_path / "cases.jsonl"), reference) == told
