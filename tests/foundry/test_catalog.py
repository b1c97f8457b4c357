"""Packages in Foundry Local's real catalog, asked as an application of its users would."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import EngineFailed, FoundryFailed, PackageDamaged, RegistrationNotFound
from edgeship.foundry import catalog, layout
from edgeship.foundry import config as provision
from edgeship.foundry.catalog import App
from edgeship.foundry.checks import Prepared, check
from edgeship.foundry.config import Provision, choose
from edgeship.foundry.sdk import INDEX_NAME, Local
from edgeship.package.manifest import MANIFEST_NAME

pytestmark = pytest.mark.slow

TWO = Provision(threads=2, context_tokens=2048)

# What a user's application does, in a process of its own: nothing of ours is in it.
APPLICATION = """
import json, os, sys
os.environ["CI"] = "1"  # no telemetry from tests
from foundry_local_sdk import *
from foundry_local_sdk import CatalogType
cache, model_id, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
FoundryLocalManager.initialize(Configuration(
    app_name="application", app_data_dir=cache + "/data", model_cache_dir=cache, log_level=LogLevel.FATAL))
catalog = FoundryLocalManager.instance.get_catalog(CatalogType.LOCAL)
ids = [variant.id for model in catalog.list_models() for variant in model.variants]
model = catalog.get_model_variant(model_id)
found = {"ids": ids}
if model is not None:
    info = model.info
    found["info"] = [info.task, info.context_length, info.publisher, info.display_name, info.file_size_mb]
    model.load()
    found["loaded"] = [each.id for each in catalog.get_loaded_models()]
    with ChatSession(model) as session:
        session.set_streaming(True)
        request = Request().add_item(MessageItem.user("where is my order S-94462?"))
        request.set_options(RequestOptions(additional_options=options))
        try:
            with request, session.process_streaming_request(request) as stream:
                found["pieces"] = [item.text for item in stream]
                with stream.final_response as response:
                    found["prompt_tokens"] = response.get_usage().prompt_tokens
        except Exception as error:
            found["error"] = str(error)
    model.unload()
    found["left"] = [each.id for each in catalog.get_loaded_models()]
print(json.dumps(found))
"""


def application(app: App, model_id: str, **options: Any) -> dict[str, Any]:
    texts = json.dumps({name: str(value) for name, value in options.items()})
    command = [sys.executable, "-c", APPLICATION, str(app.cache_dir), model_id, texts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App("application", tmp_path / "foundry")


@pytest.fixture
def prepared(example: Path) -> Prepared:
    return check(example)


def copied(example: Path, folder: Path, *, manifest: bool = False) -> Path:
    """A package that a test may damage; without its manifest what is damaged shows elsewhere."""
    shutil.copytree(example, folder)
    if not manifest:
        (folder / MANIFEST_NAME).unlink()
    return folder


def test_an_application_finds_loads_asks_and_unloads_it(app: App, prepared: Prepared) -> None:
    before = {path.name: path.read_bytes() for path in prepared.folder.iterdir()}
    done = catalog.register(prepared, app, TWO)
    assert (done.id, done.new) == ("triage:1", True)
    assert done.proof.usage.completion_tokens >= 1
    assert done.laid.linked_bytes > 10 * done.laid.copied_bytes
    found = application(app, "triage:1", max_output_tokens=60)
    assert found["ids"] == found["loaded"] == ["triage:1"]
    assert found["left"] == []
    assert found["info"] == ["chat-completion", 2048, "edgeship", "triage", 2]
    assert json.loads("".join(found["pieces"]))["order"] == "S-94462"
    assert len(found["pieces"]) > 5
    assert {path.name: path.read_bytes() for path in prepared.folder.iterdir()} == before


def test_the_documentations_example_runs(example: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "foundry.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    app = App("edgeship", tmp_path / ".edgeship" / "cache" / "models")
    catalog.register(check(example, name="support-int4"), app, TWO)
    environment = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "CI": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["intent"]


def test_it_answers_greedily_by_default_as_the_package_does(app: App, prepared: Prepared) -> None:
    done = catalog.register(prepared, app, TWO)
    assert any("greedily" in note for note in done.notes)
    said = {"".join(application(app, "triage:1", max_output_tokens=60)["pieces"]) for _ in range(3)}
    assert len(said) == 1


def test_a_request_without_a_limit_is_refused_where_the_note_says_so(app: App, prepared: Prepared) -> None:
    """If a later SDK takes it, the note must go."""
    done = catalog.register(prepared, app, TWO)
    assert any("max_output_tokens" in note for note in done.notes)
    assert "2048 output" in application(app, "triage:1")["error"]


def test_a_smaller_context_is_what_foundry_local_keeps_to(app: App, prepared: Prepared) -> None:
    chosen = choose(prepared, threads=2, context_tokens=256)
    assert chosen == Provision(2, 256, reserves=True)
    catalog.register(prepared, app, chosen)
    assert [each.context_tokens for each in catalog.registrations(app)] == [256]
    assert "maximum context length of 256" in application(app, "triage:1", max_output_tokens=256)["error"]


def test_where_much_would_be_reserved_it_grows_instead(
    app: App, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provision, "RESERVED_BYTES", 1_500_000)
    chosen = choose(prepared, threads=2)
    assert chosen == Provision(2, 2048, reserves=False)
    done = catalog.register(prepared, app, chosen)
    assert any("--context-tokens" in note for note in done.notes)
    assert json.loads("".join(application(app, "triage:1", max_output_tokens=60)["pieces"]))["order"] == "S-94462"


def test_registering_again_changes_nothing(app: App, prepared: Prepared) -> None:
    catalog.register(prepared, app, TWO)
    again = catalog.register(prepared, app, TWO)
    assert not again.new
    assert [each.id for each in catalog.registrations(app)] == ["triage:1"]
    assert application(app, "triage:1", max_output_tokens=5)["pieces"]


def test_two_versions_and_taking_out_one_or_all(app: App, example: Path, tmp_path: Path) -> None:
    second = copied(example, tmp_path / "triage" / "v2", manifest=True)
    for folder in (example, second):
        catalog.register(check(folder), app, TWO)
    assert sorted(each.id for each in catalog.registrations(app)) == ["triage:1", "triage:2"]
    assert catalog.find(app, "triage").id == "triage:2"
    assert catalog.find(app, "triage:1").version == 1
    assert [each.id for each in catalog.unregister(app, "triage:2")] == ["triage:2"]
    assert not layout.place(app.cache_dir, "triage", 2).exists()
    assert application(app, "triage:1", max_output_tokens=5)["ids"] == ["triage:1"]
    with pytest.raises(RegistrationNotFound, match="'triage:2'") as caught:
        catalog.find(app, "triage:2")
    assert str(caught.value.hint).startswith("There is triage:1. ")
    catalog.register(check(second), app, TWO)
    assert len(catalog.unregister(app, "triage")) == 2
    assert catalog.registrations(app) == []
    assert not (app.cache_dir / layout.PUBLISHER).exists()
    assert (example / "model.onnx").is_file()


def test_it_stays_when_the_package_goes(app: App, example: Path, tmp_path: Path) -> None:
    package = copied(example, tmp_path / "passing")
    catalog.register(check(package), app, TWO)
    shutil.rmtree(package)
    assert application(app, "passing:1", max_output_tokens=5)["pieces"]


def test_a_stale_registration_is_found_and_can_be_taken_out(app: App, prepared: Prepared) -> None:
    done = catalog.register(prepared, app, TWO)
    shutil.rmtree(done.laid.folder)
    [left] = catalog.registrations(app)
    assert left.folder == done.laid.folder
    assert catalog.fault(left) == f"its folder is gone: {done.laid.folder}"
    with pytest.raises(FoundryFailed, match="its folder is gone"):
        catalog.find(app, "triage")
    catalog.unregister(app, "triage")
    assert catalog.registrations(app) == []


def test_a_folder_in_its_cache_is_no_model_until_it_is_registered(app: App, prepared: Prepared) -> None:
    """What the tutorial does. If a later SDK lists such folders, docs/foundry.md is to be changed."""
    with layout.laid_out(prepared, layout.place(app.cache_dir, prepared.name, prepared.version)):
        pass
    assert application(app, "triage:1") == {"ids": []}


def test_what_others_registered_is_listed_run_and_never_deleted(app: App, example: Path) -> None:
    app.cache_dir.mkdir()
    with Local(app.cache_dir) as local:
        local.register(example, "theirs:7", {"display_name": "Theirs"}, {})
    assert catalog.find(app, "theirs").folder == example
    catalog.unregister(app, "theirs:7")
    assert (example / "model.onnx").is_file()


def test_another_registration_of_the_same_id_is_replaced_and_named(app: App, example: Path, tmp_path: Path) -> None:
    theirs = copied(example, tmp_path / "theirs")
    app.cache_dir.mkdir()
    with Local(app.cache_dir) as local:
        local.register(theirs, "triage:1", {}, {})
    done = catalog.register(check(example), app, TWO)
    assert done.notes[0] == f"triage:1 was registered before, from {theirs}"
    assert catalog.find(app, "triage").folder == done.laid.folder
    assert theirs.is_dir()


@pytest.mark.parametrize("content", [b"no model", b"\x08\x0a" + b"\x00" * 100])
def test_a_damaged_model_is_not_registered(app: App, example: Path, tmp_path: Path, content: bytes) -> None:
    package = copied(example, tmp_path / "damaged")
    (package / "model.onnx").write_bytes(content)
    with pytest.raises(EngineFailed):
        catalog.register(check(package), app, TWO)
    assert catalog.registrations(app) == []
    assert not (app.cache_dir / layout.PUBLISHER).exists()


def test_a_package_that_was_altered_is_not_registered(app: App, example: Path, tmp_path: Path) -> None:
    """Also where it still answers: one bit of its weights is another."""
    package = copied(example, tmp_path / "altered", manifest=True)
    data = bytearray((package / "model.onnx.data").read_bytes())
    data[len(data) // 2] ^= 1
    (package / "model.onnx.data").write_bytes(data)
    with pytest.raises(PackageDamaged, match=r"model\.onnx\.data was altered"):
        catalog.register(check(package), app, TWO)
    assert catalog.registrations(app) == []
    assert not (app.cache_dir / layout.PUBLISHER).exists()


def test_weights_that_are_cut_short_are_not_registered_and_what_was_stays(
    app: App, example: Path, tmp_path: Path
) -> None:
    package = copied(example, tmp_path / "cut")
    catalog.register(check(package), app, TWO)
    spoiled = copied(example, tmp_path / "spoiled" / "cut")
    data = spoiled / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(EngineFailed):
        catalog.register(check(spoiled), app, TWO)
    assert application(app, "cut:1", max_output_tokens=5)["pieces"]


def test_a_template_that_it_renders_otherwise_is_not_registered(app: App, example: Path, tmp_path: Path) -> None:
    from edgeship.errors import TemplateMismatch

    package = copied(example, tmp_path / "other")
    path = package / "tokenizer_config.json"
    config = json.loads(path.read_bytes())
    config["chat_template"] = config["chat_template"].replace("<|im_start|>assistant\\n", "<|im_start|>assistant")
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TemplateMismatch, match="Foundry Local makes"):
        catalog.register(check(package), app, TWO)
    assert catalog.registrations(app) == []


def test_killed_while_it_registers_it_can_be_done_again(app: App, example: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from edgeship.foundry import catalog; from edgeship.foundry.checks import check\n"
        "from edgeship.foundry.config import Provision\n"
        "catalog.register(check(Path(sys.argv[1])), catalog.App('a', Path(sys.argv[2])), Provision(2, 2048))"
    )
    for delay_s in (0.3, 0.5, 0.7, 0.9):
        child = subprocess.Popen([sys.executable, "-c", code, str(example), str(app.cache_dir)])
        time.sleep(delay_s)
        child.kill()
        child.wait()
    done = catalog.register(check(example), app, TWO)
    assert application(app, "triage:1", max_output_tokens=5)["pieces"]
    assert [path.name for path in done.laid.folder.parent.iterdir()] == ["v1"]


def test_several_processes_may_register_at_the_same_time(app: App, example: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from edgeship.foundry import catalog; from edgeship.foundry.checks import check\n"
        "from edgeship.foundry.config import Provision\n"
        "app = catalog.App('a', Path(sys.argv[2]))\n"
        "catalog.register(check(Path(sys.argv[1]), name=sys.argv[3]), app, Provision(2, 2048))"
    )
    names = ("one", "two", "one", "three")
    command = [sys.executable, "-c", code, str(example), str(app.cache_dir)]
    children = [subprocess.Popen([*command, name]) for name in names]
    assert [child.wait() for child in children] == [0] * len(names)
    assert sorted(each.id for each in catalog.registrations(app)) == ["one:1", "three:1", "two:1"]


def test_a_catalog_that_cannot_be_read_is_said(app: App, prepared: Prepared) -> None:
    app.cache_dir.mkdir()
    (app.cache_dir / INDEX_NAME).write_text("{ broken", encoding="utf-8")
    with pytest.raises(FoundryFailed, match="failed to parse"):
        catalog.registrations(app)
    with pytest.raises(FoundryFailed, match="failed to parse"):
        catalog.register(prepared, app, TWO)
    assert (app.cache_dir / INDEX_NAME).read_text(encoding="utf-8") == "{ broken"
    assert not (app.cache_dir / layout.PUBLISHER).exists()


def test_nothing_is_made_where_nothing_is(app: App) -> None:
    assert catalog.registrations(app) == []
    with pytest.raises(RegistrationNotFound):
        catalog.unregister(app, "triage")
    assert not app.cache_dir.exists()
