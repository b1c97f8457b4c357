"""`edgeship foundry ...` and `foundry:NAME`, with the real SDK."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.cli import main
from edgeship.package import manifest
from edgeship.settings import Settings
from edgeship.store import listing, packages
from tests.store.test_attestations import verdict


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture
def installed(example: Path, settings: Settings) -> Settings:
    """The example in the cache."""
    packages.install(example, settings.cache_dir)
    return settings


@pytest.mark.slow
def test_the_road_of_the_tutorial(capsys: pytest.CaptureFixture[str], installed: Settings) -> None:
    done = as_json(capsys, "foundry", "register", "triage", "--threads", "1")
    assert (done["registered"], done["new"]) == ("triage:1", True)
    assert done["tuning"] == {"threads": 1, "context_tokens": 2048, "reserves": True}
    assert Path(done["folder"]).is_relative_to(installed.foundry_cache_dir)
    listed = as_json(capsys, "foundry", "ls")
    assert [(model["id"], model["fault"]) for model in listed["models"]] == [("triage:1", None)]
    answered = as_json(capsys, "model", "run", "foundry:triage", "where is my order S-94462?")
    assert json.loads(answered["answer"])["order"] == "S-94462"
    again = as_json(capsys, "foundry", "run", "triage:1", "where is my order S-94462?", "--temperature", "0")
    assert again["answer"] == answered["answer"]
    assert as_json(capsys, "foundry", "unregister", "triage")["unregistered"] == ["triage:1"]
    assert as_json(capsys, "foundry", "ls")["models"] == []
    assert as_json(capsys, "cache", "ls")["packages"]


@pytest.mark.slow
def test_what_is_printed_for_people(capsys: pytest.CaptureFixture[str], installed: Settings) -> None:
    assert installed.cache_dir.is_dir()
    code, out, err = run(capsys, "foundry", "register", "triage")
    assert code == 0
    assert "registered triage:1 in Foundry Local" in out
    assert "edgeship model run foundry:triage:1" in out
    assert "note: every request must set max_output_tokens" in err
    code, out, _ = run(capsys, "foundry", "ls")
    assert (code, "triage" in out) == (0, True)
    code, out, _ = run(capsys, "foundry", "doctor")
    assert (code, "triage:1" in out) == (7 if "failed" in out else 0, True)
    code, out, _ = run(capsys, "foundry", "unregister", "triage:1")
    assert out == "took triage:1 out of Foundry Local\n"
    code, _, err = run(capsys, "foundry", "ls")
    assert (code, "no models are registered for edgeship" in err) == (0, True)


@pytest.mark.slow
def test_what_the_release_gate_said_is_shown_there_too(
    capsys: pytest.CaptureFixture[str], example: Path, settings: Settings, tmp_path: Path
) -> None:
    package = manifest.read(example)
    entry, _ = packages.install(example, settings.cache_dir, gate=verdict("fail"), force=True)
    code, _, err = run(capsys, "foundry", "register", "triage", "--name", "other")
    assert (code, "note: the release gate found this package unfit (failed, forced)" in err) == (0, True)
    code, out, _ = run(capsys, "foundry", "ls")
    assert (code, "failed, forced" in out) == (0, True)
    assert as_json(capsys, "foundry", "ls")["models"][0]["gate"] == "failed, forced"
    code, _, err = run(capsys, "foundry", "export", "triage", str(tmp_path / "out"))
    assert (code, "the release gate found this package unfit" in err) == (0, True)
    packages.attest(settings.cache_dir, entry.folder, package.digest, verdict("pass"))
    assert as_json(capsys, "foundry", "ls")["models"][0]["gate"] == "pass"
    assert as_json(capsys, "foundry", "register", "triage", "--name", "other")["gate"] == "pass"
    packages.remove(settings.cache_dir, "triage")
    assert as_json(capsys, "foundry", "ls")["models"][0]["gate"] is None


@pytest.mark.slow
def test_each_application_has_its_own_catalog(
    capsys: pytest.CaptureFixture[str], installed: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert installed.cache_dir.is_dir()
    monkeypatch.delenv("EDGESHIP_FOUNDRY_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    code, out, _ = run(capsys, "foundry", "register", "triage", "--app", "ShopFloor")
    printed = next(line for line in out.splitlines() if line.startswith("run it"))
    assert (code, printed.endswith("edgeship foundry run triage:1 --app ShopFloor")) == (0, True)
    done = as_json(capsys, "foundry", "register", "triage", "--app", "ShopFloor")
    assert Path(done["folder"]) == tmp_path / ".ShopFloor" / "cache" / "models" / "edgeship" / "triage-1" / "v1"
    assert as_json(capsys, "foundry", "ls")["models"] == []
    monkeypatch.setenv("EDGESHIP_FOUNDRY_APP", "ShopFloor")
    assert [model["id"] for model in as_json(capsys, "foundry", "ls")["models"]] == ["triage:1"]


@pytest.mark.slow
def test_structured_output_in_both_forms_and_what_is_refused(
    capsys: pytest.CaptureFixture[str], installed: Settings, tmp_path: Path
) -> None:
    assert installed.cache_dir.is_dir()
    run(capsys, "foundry", "register", "triage")
    fields = {"properties": {"x": {"type": "boolean"}}, "required": ["x"]}
    schema = {"type": "object", "additionalProperties": False, **fields}
    wrapper = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for number, value in enumerate((schema, wrapper)):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        answered = as_json(capsys, "foundry", "run", "triage", "hello", "--schema", str(path))
        assert list(json.loads(answered["answer"])) == ["x"]
    code, _, err = run(capsys, "model", "run", "foundry:triage", "hello", "--min-p", "0.2")
    assert (code, "error[not-supported]: Foundry Local has no min_p" in err) == (2, True)


@pytest.mark.slow
def test_exporting_leaves_the_folders_of_the_older_cache(
    capsys: pytest.CaptureFixture[str], installed: Settings, tmp_path: Path
) -> None:
    done = as_json(capsys, "foundry", "export", "triage", str(tmp_path / "out"), "--publisher", "me")
    folder = tmp_path / "out" / "me" / "triage-1" / "v1"
    assert Path(done["folder"]) == folder
    original = listing.find(installed.cache_dir, "triage").folder
    written = {"edgeship.json", "genai_config.json", "inference_model.json"}
    for path in original.iterdir():
        assert ((folder / path.name).read_bytes() == path.read_bytes()) == (path.name not in written)
    assert manifest.verify(manifest.read(folder)) == []
    assert json.loads((folder / "inference_model.json").read_bytes())["Name"] == "triage:1"
    session = json.loads((folder / "genai_config.json").read_bytes())["model"]["decoder"]["session_options"]
    assert session["intra_op_num_threads"] >= 1
    assert as_json(capsys, "foundry", "export", "triage", str(tmp_path / "out"), "--publisher", "me") == done
    (folder / "edgeship.json").unlink()
    code, _, err = run(capsys, "foundry", "export", "triage", str(tmp_path / "out"), "--publisher", "me")
    assert (code, "is not replaced" in err) == (2, True)
    again = as_json(capsys, "foundry", "export", "triage", str(tmp_path / "out"), "--name", "other")
    assert json.loads((Path(again["folder"]) / "inference_model.json").read_bytes())["Name"] == "other:1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["foundry", "run", "nobody", "hi"], 4, "registration-not-found"),
        (["model", "run", "foundry:nobody", "hi"], 4, "registration-not-found"),
        (["foundry", "unregister", "nobody"], 4, "registration-not-found"),
        (["foundry", "run", "foundry:nobody", "hi"], 4, "registration-not-found"),
        (["foundry", "unregister", "foundry:nobody"], 4, "registration-not-found"),
        (["foundry", "register", "foundry:triage"], 4, "package-not-found"),
        (["foundry", "unregister", "a/b"], 2, "name-invalid"),
        (["foundry", "register", "nobody"], 4, "package-not-found"),
        (["foundry", "register", "triage", "--name", "triage-cuda-gpu"], 2, "name-invalid"),
        (["foundry", "register", "triage", "--name", "../triage"], 2, "name-invalid"),
        (["foundry", "register", "triage", "--app", "a/b"], 2, "usage"),
        (["foundry", "register", "triage", "--context-tokens", "4096"], 2, "usage"),
        (["foundry", "register", "triage", "--context-tokens", "5"], 2, "usage"),
        (["foundry", "export", "triage", "out", "--publisher", ".."], 2, "name-invalid"),
        (["tune", "foundry:triage"], 2, "not-supported"),
    ],
)
def test_bad_input(
    capsys: pytest.CaptureFixture[str], installed: Settings, arguments: list[str], code: int, error: str
) -> None:
    found, out, err = run(capsys, *arguments)
    assert (found, out) == (code, "")
    assert f"error[{error}]" in err
    assert not installed.foundry_cache_dir.exists()
