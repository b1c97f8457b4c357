"""`edgeship cache ...` and `edgeship model info`: what lies in the cache, what is known of it, is it whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.cli import main
from edgeship.package.manifest import MANIFEST_NAME
from edgeship.settings import Settings
from edgeship.store import listing, packages, verification
from tests import tool_templates
from tests.packages import make_package
from tests.store.test_attestations import verdict


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([*arguments, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, found


def foreign(settings: Settings) -> None:
    folder = settings.cache_dir / "theirs"
    folder.mkdir(parents=True)
    (folder / "genai_config.json").write_text("{}", encoding="utf-8")


def test_a_package_is_called_as_its_folder_or_as_one_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = make_package(tmp_path / "support" / "onnx")
    assert as_json(capsys, "cache", "add", str(package.folder))[1]["installed"] == "support:1"
    assert as_json(capsys, "cache", "add", str(package.folder), "--name", "other")[1]["installed"] == "other:1"
    _, listed = as_json(capsys, "cache", "ls")
    found = [(each["name"], each["version"], each["digest"], each["note"]) for each in listed["packages"]]
    assert found == [("other", 1, package.digest, None), ("support", 1, package.digest, None)]
    assert main(["cache", "ls"]) == 0
    assert "INSTALLED" in capsys.readouterr().out


def test_what_is_known_of_a_package(tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    package = make_package(tmp_path / "support")
    packages.install(
        package.folder, settings.cache_dir, measurements={"threads": 7}, verdict={"reasons": ["it is good"]}
    )
    assert main(["model", "info", "support"]) == 0
    out = capsys.readouterr().out
    shown = dict(line.split("  ", 1) for line in out.splitlines())
    facts = {label: value.strip() for label, value in shown.items()}
    assert (facts["digest"], facts["threads"], facts["verdict"]) == (package.digest, "7", "it is good")
    assert (facts["context"], facts["sampling"]) == ("512 tokens", "greedy yes")
    assert facts["chat template"].endswith("system role yes, tools no, thinking no")
    assert facts["run it"].endswith("edgeship model run support")
    assert {"installed", "checkpoint", "recipe", "licence"} <= facts.keys()
    _, found = as_json(capsys, "model", "info", "support")
    assert (found["measurements"], found["verdict"]) == ({"threads": 7}, {"reasons": ["it is good"]})
    assert found["manifest"]["format"] == 2
    assert "messages" in found["template"]


def test_what_calls_a_package_is_written_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = make_package(tmp_path / "support")
    (package.folder / "chat_template.jinja").write_text(tool_templates.LLAMA3, encoding="utf-8")
    _, found = as_json(capsys, "model", "info", str(package.folder))
    assert (found["chat template"]["tools"], found["chat template"]["tool_format"]) == (True, "llama3")


def test_what_is_known_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = make_package(tmp_path / "support")
    assert main(["model", "info", str(package.folder)]) == 0
    assert package.digest in capsys.readouterr().out
    (package.folder / MANIFEST_NAME).unlink()
    assert main(["model", "info", str(package.folder)]) == 0
    said = capsys.readouterr().out
    assert "made by another tool" in said
    assert "512 tokens" in said
    (package.folder / "tokenizer.json").unlink()
    assert main(["model", "info", str(package.folder)]) == 0


def test_folders_that_can_run_are_listed_with_how_to_add_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_package(tmp_path / "models" / "qwen" / "onnx").folder
    assert main(["cache", "ls", "--cache-dir", str(tmp_path / "models")]) == 0
    assert f"cache add {folder}" in capsys.readouterr().out
    _, listed = as_json(capsys, "cache", "ls", "--cache-dir", str(tmp_path / "models"))
    assert (listed["packages"], listed["found"]) == ([], [str(folder)])


def test_verify_says_ok_of_what_it_could_compare_alone(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign(settings)
    packages.install(make_package(tmp_path / "ours").folder, settings.cache_dir)
    assert main(["cache", "verify"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ours:1  ok",
        "theirs:1  cannot be verified: no manifest: made by another tool",
    ]


def test_a_folder_that_was_named_and_cannot_be_verified_is_no_success(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign(settings)
    assert main(["cache", "verify", "theirs"]) == 1
    capsys.readouterr()
    code, found = as_json(capsys, "cache", "verify", "theirs:1")
    assert code == 1
    (result,) = found["packages"]
    assert (result["outcome"], result["faults"], result["note"]) == ("unverified", [], listing.FOREIGN)


def test_verify_says_that_a_package_is_from_before_names_left(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_package(tmp_path / "support").folder / MANIFEST_NAME
    stated = {"format": 1, "name": "support", "version": 1, "created": "2026-11-22T10:00:00Z"}
    path.write_text(json.dumps(json.loads(path.read_bytes()) | stated), encoding="utf-8")
    packages.install(path.parent, settings.cache_dir)
    assert main(["cache", "verify", "support"]) == 0
    assert capsys.readouterr().out.startswith("support:1  ok (made before names left the package")
    assert main(["model", "info", "support"]) == 0


def test_gc_says_what_it_frees_and_leaves_packages(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    packages.install(make_package(tmp_path / "support").folder, settings.cache_dir)
    for folder in (settings.builds_dir / "0a", settings.cache_dir / ".tmp" / "killed"):
        folder.mkdir(parents=True)
        (folder / "data").write_bytes(bytes(10))
    code, would = as_json(capsys, "cache", "gc", "--dry-run")
    assert (code, would["freed_bytes"], len(would["items"])) == (0, 20, 2)
    assert (settings.builds_dir / "0a").is_dir()
    assert main(["cache", "gc"]) == 0
    assert capsys.readouterr().out == "freed 0.00 MB: 2 pieces of unfinished work\n"
    assert not (settings.builds_dir / "0a").exists()
    assert main(["cache", "gc"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert verification.verify(settings.cache_dir, "support")[0].outcome == "ok"


def test_cd_says_what_stays_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "cd", str(tmp_path / "first")]) == 0
    assert main(["cache", "add", str(make_package(tmp_path / "mine").folder)]) == 0
    capsys.readouterr()
    assert main(["cache", "cd", str(tmp_path / "second")]) == 0
    said = capsys.readouterr().err
    assert f"1 package is left in {tmp_path / 'first'}" in said
    assert "back to there" in said


def test_what_the_release_gate_said_is_shown_wherever_a_package_is(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    package, other = make_package(tmp_path / "support"), make_package(tmp_path / "other", weights=b"o" * 100)
    bad = verdict("fail", only=["domain", "leaks"], off={"leaks": "it takes long"})
    bad["checks"]["leaks"] = {"outcome": "skipped"}
    bounds = [("min_pass_rate", 0.5, 0.8), ("max_drop", 0.02, 0.02)]
    held = [dict(zip(("name", "value", "default"), bound, strict=True)) for bound in bounds]
    bad["checks"]["domain"] |= {"bounds": held, "why": "few cases"}
    packages.install(package.folder, settings.cache_dir, gate=bad, force=True)
    packages.install(other.folder, settings.cache_dir)
    assert main(["cache", "ls"]) == 0
    rows = {line.split()[0]: line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["NAME"].endswith("GATE")
    assert (rows["support"].split("  ")[-1].strip(), rows["other"].split()[-1]) == ("failed, forced", "-")
    _, listed = as_json(capsys, "model", "ls")
    assert [each["gate"] and each["gate"]["outcome"] for each in listed["packages"]] == [None, "fail"]
    assert main(["model", "info", "support"]) == 0
    said = {line.split("  ", 1)[0]: line.split("  ", 1)[1].strip() for line in capsys.readouterr().out.splitlines()}
    assert said["gate"] == "failed, forced (2 of 3 checks, default effort, 2026-11-27T10:00:00Z)"
    assert said["gate fails"] == "domain (default effort, 2026-11-27T10:00:00Z)"
    assert said["gate asked for"] == "domain, leaks"
    assert said["gate turned off"] == "leaks: it takes long"
    assert said["gate bounds, domain"] == "min_pass_rate 0.5 instead of 0.8: few cases"
    _, found = as_json(capsys, "model", "info", "support")
    assert (found["gate"]["forced"], found["gate"]["in_part"]) == (True, True)
    assert found["gate"]["checks"]["domain"] == {
        "outcome": "fail",
        "effort": "default",
        "created": "2026-11-27T10:00:00Z",
        "changed": ["min_pass_rate 0.5 instead of 0.8"],
        "why": "few cases",
    }
    assert main(["cache", "verify"]) == 0
    assert "support:1 (release gate: failed, forced)  ok" in capsys.readouterr().out
    assert json.loads(Path(found["gate"]["file"]).read_bytes())["predicate"] == bad
    assert main(["model", "info", "other"]) == 0
    assert "edgeship validate" in capsys.readouterr().out


def test_what_the_release_gate_refused_is_added_by_force(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    package = make_package(tmp_path / "support")
    failed = packages.install(package.folder, settings.cache_dir, gate=verdict("fail"), force=True)[0]
    elsewhere = ["--cache-dir", str(tmp_path / "elsewhere")]
    code, refused = as_json(capsys, "cache", "add", str(failed.folder), *elsewhere)
    assert (code, refused["error"]["code"]) == (1, "gate-failed")
    assert "--force" in refused["error"]["hint"]
    assert listing.entries(tmp_path / "elsewhere") == []
    assert main(["cache", "add", str(failed.folder), *elsewhere, "--force"]) == 0
    assert "the release gate said: failed, forced" in capsys.readouterr().out
