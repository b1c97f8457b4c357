"""Which models are served, and what they are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgeship.errors import NameInvalid, NotWritable, PackageNotFound, RegistrationNotFound, UsageError
from edgeship.serve import catalog
from edgeship.serve.catalog import Catalog
from edgeship.settings import Settings
from edgeship.store import listing, packages
from tests.chat_server import Handler, models, serving
from tests.packages import make_package


@pytest.fixture
def cache(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with triage:1, triage:2 and support:1, looked at whenever it is asked for."""
    monkeypatch.setattr(catalog, "LOOK_S", 0.0)
    for number, name in enumerate(("triage", "triage", "support")):
        source = make_package(tmp_path / f"source-{number}", weights=bytes([number]) * 100)
        packages.install(source.folder, settings.cache_dir, name=name)
    return settings.cache_dir


def called(found: Catalog) -> dict[str, tuple[str, ...]]:
    return {card.id: card.aliases for card in found.cards()}


@pytest.mark.usefixtures("cache")
def test_without_names_every_package_is_served_and_the_latest_has_the_name(settings: Settings) -> None:
    found = Catalog([], settings)
    assert called(found) == {"support": ("support:1",), "triage:1": (), "triage": ("triage:2",)}
    first = found.cards()[0]
    assert first.folder == settings.cache_dir / "support" / "v1"
    assert (first.target.kind, first.target.name) == ("package", "support:1")
    assert first.size_bytes == listing.find(settings.cache_dir, "support").size_bytes
    assert first.created == int((first.folder / "genai_config.json").stat().st_mtime)


def test_what_is_installed_and_removed_later_is_noticed(cache: Path, settings: Settings, tmp_path: Path) -> None:
    found = Catalog([], settings, aliases=["gpt-4o=triage"])
    before = found.cards()
    assert found.cards() is before
    packages.install(make_package(tmp_path / "new", weights=b"new").folder, cache, name="triage")
    assert called(found)["triage"] == ("triage:3", "gpt-4o")
    assert called(found)["triage:2"] == ()
    shutil.rmtree(cache / "support")
    assert "support" not in called(found)


def test_a_cache_that_changes_for_the_worse_changes_nothing(
    cache: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = Catalog([], settings, aliases=["other=triage"])
    packages.install(make_package(tmp_path / "new").folder, cache, name="other")
    assert "other" not in called(found)
    assert "other" not in called(found)
    assert caplog.text.count("two models are called 'other': other:1 and triage:2") == 1
    shutil.rmtree(cache / "other")
    assert len(called(found)) == 3

    def refuse(_: Path) -> list[listing.Entry]:
        raise NotWritable("the folder cannot be read")

    monkeypatch.setattr(listing, "entries", refuse)
    (cache / "another").mkdir()
    assert len(called(found)) == 3


def test_packages_that_cannot_be_run_are_not_served(cache: Path, settings: Settings) -> None:
    (cache / "support" / "v1" / "edgeship.json").write_text("{", encoding="utf-8")
    (cache / "triage" / "v2" / "edgeship.json").unlink()  # as another tool makes them
    (cache / "triage" / "v3").mkdir()
    assert called(Catalog([], settings)) == {"triage:1": (), "triage": ("triage:2",)}


def test_a_package_that_was_named_stays_the_version_that_it_was(
    cache: Path, settings: Settings, tmp_path: Path
) -> None:
    found = Catalog(["triage", "triage:v1", "support"], settings, aliases=["gpt-4o=triage", "old=triage:1"])
    expected = {"triage": ("triage:2", "gpt-4o"), "triage:1": ("old",), "support": ("support:1",)}
    assert called(found) == expected
    packages.install(make_package(tmp_path / "new", weights=b"new").folder, cache, name="triage")
    assert called(found) == expected


@pytest.mark.usefixtures("cache")
def test_folders_are_called_by_their_names(settings: Settings, tmp_path: Path) -> None:
    folder = make_package(tmp_path / "mine").folder
    [mine, version] = Catalog([folder, str(settings.cache_dir / "triage" / "v1")], settings).cards()
    assert (mine.id, mine.folder, mine.target.kind) == ("mine", folder, "folder")
    assert version.id == "triage"
    assert mine.size_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_servers_are_called_by_their_models(settings: Settings) -> None:
    with serving(Handler.cut, models("theirs")) as server:
        [card] = Catalog([server.url], settings).cards()
        assert (card.id, card.folder, card.size_bytes, card.target.name) == ("theirs", None, None, server.url)
    with serving(Handler.cut, models("one", "two")) as server:
        with pytest.raises(UsageError, match="the server has 2 models"):
            Catalog([server.url], settings)
        found = Catalog([f"{server.url}#two", f"{server.url}#org/one"], settings)
        assert list(called(found)) == ["two", "org/one"]


def test_what_is_not_there_is_told_at_once(settings: Settings) -> None:
    for text, kind in (
        ("nothing", PackageNotFound),
        ("./nothing", PackageNotFound),
        ("no name", NameInvalid),
        ("foundry:nothing", RegistrationNotFound),
        ("ftp://host", UsageError),
    ):
        with pytest.raises(kind):
            Catalog([text], settings)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("given", "aliases", "what"),
    [
        (["triage", "triage:2"], [], "two models are called 'triage:2'"),
        (["triage"], ["triage=triage"], None),
        (["triage", "support"], ["support=triage"], "two models are called 'support'"),
        ([], ["x=nothing"], "the alias 'x' means 'nothing', which is not served"),
        ([], ["x=y", "y=triage"], "the alias 'x' means 'y'"),
        ([], ["x=triage", "x=support"], "the alias 'x' is given twice"),
        ([], ["triage"], "'triage' is no alias"),
        ([], ["=triage"], "is no alias"),
        ([], ["x="], "is no alias"),
        ([], ["a\nb=triage"], "is no alias"),
        ([], ["x" * 201 + "=triage"], "is no alias"),
    ],
)
def test_a_name_means_one_model(given: list[str], aliases: list[str], what: str | None, settings: Settings) -> None:
    if what is None:
        assert called(Catalog(given, settings, aliases=aliases)) == {"triage": ("triage:2",)}
        return
    with pytest.raises(UsageError, match=what):
        Catalog(given, settings, aliases=aliases)
