"""What a text means where something that answers is wanted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgeship import targets
from edgeship.engine.api import Conversation, Limits, Sampling
from edgeship.errors import NameInvalid, PackageNotFound, UsageError
from edgeship.settings import Settings
from edgeship.store import packages
from edgeship.targets import Kind, Target, resolve
from tests.packages import make_package


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the package folders triage and models/triage in it, and an empty one."""
    for folder in ("triage", "models/triage"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "genai_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("support", "package", "support"),
        ("support:2", "package", "support:2"),
        ("support:v2", "package", "support:v2"),
        ("models", "package", "models"),  # a folder, and none of a package
        ("triage", "folder", "triage"),
        ("./triage", "folder", "triage"),
        ("models/triage", "folder", "models/triage"),
        (Path("triage"), "folder", "triage"),
        ("triage:1", "package", "triage:1"),
        ("foundry", "package", "foundry"),
        ("foundry:1", "package", "foundry:1"),
        ("foundry:v1", "package", "foundry:v1"),
        ("foundry:triage", "foundry", "triage"),
        ("foundry:triage:3", "foundry", "triage:3"),
        ("http://localhost:8080", "url", "http://localhost:8080/v1"),
        ("http://localhost:8080/", "url", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1", "url", "http://localhost:8080/v1"),
        ("http://[::1]:8080", "url", "http://[::1]:8080/v1"),
        ("HTTPS://Example.org", "url", "https://example.org/v1"),
        ("https://example.org/openai/v1/", "url", "https://example.org/openai/v1"),
        ("http://localhost:8080/v1/chat/completions", "url", "http://localhost:8080/v1"),
        ("localhost:8080", "package", "localhost:8080"),  # it could be one; see below
    ],
)
def test_what_a_text_means(text: str | Path, kind: Kind, name: str, settings: Settings) -> None:
    found = resolve(text, settings)
    assert (found.kind, found.name) == (kind, str(Path(name)) if kind == "folder" else name)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "text", ["", "a b", "x:latest", "C:", "foundry:", "foundry:a b", "foundry:a/b", "x" * 300, "[::1]:8080"]
)
def test_what_no_name_can_be(text: str, settings: Settings) -> None:
    with pytest.raises(NameInvalid):
        resolve(text, settings)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("text", "what"),
    [
        (".", "it holds packages: triage"),
        ("./empty", "genai_config.json is missing"),
        ("./nowhere", "there is no such folder"),
        ("..", "no package lies there"),
        (Path("nowhere"), "there is no such folder"),
        ("triage/genai_config.json", "it is a file"),
        ("C:\\models\\x", "there is no such folder"),
        ("a/" + "x" * 5000, "there is no such folder"),
    ],
)
def test_a_path_where_no_package_lies(text: str | Path, what: str, settings: Settings) -> None:
    with pytest.raises(PackageNotFound, match=what):
        resolve(text, settings)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("http://user:hunter2@host/v1", "a key does not belong into it"),
        ("https://hunter2@host", "a key does not belong into it"),
        ("https://host/v1?api_key=hunter2", "it has a '?' or '#'"),
        ("https://host/v1#hunter2", "it has a '?' or '#'"),
        ("https://user:hunter2@host:99999", "it cannot be read"),
        ("ftp://host/x", "ftp is not spoken here"),
        ("ws://host", "ws is not spoken here"),
        ("file:///models/x", "file is not spoken here"),
        ("http:/host", "it names no host"),
        ("http://", "it names no host"),
        ("http://a b:80", "it names no host"),
        ("http://host\n:80", "it names no host"),
    ],
)
def test_a_faulty_address_is_refused_and_tells_no_secret(text: str, what: str, settings: Settings) -> None:
    with pytest.raises(UsageError) as raised:
        resolve(text, settings)
    error = raised.value
    assert what in error.what
    assert error.hint
    assert "hunter2" not in f"{error.what} {error.where} {error.hint}"


@pytest.mark.parametrize("text", ["localhost:8080", "127.0.0.1:8080", "host.example:11434", "localhost"])
def test_an_address_without_its_scheme_is_told_how_to_write_it(text: str, settings: Settings) -> None:
    with pytest.raises(PackageNotFound) as raised:
        resolve(text, settings).package_folder()
    assert f"begins with http://: http://{text}" in str(raised.value.hint)
    with pytest.raises(PackageNotFound) as raised:
        resolve(f"{text}/v1", settings)
    assert f"http://{text}/v1" in str(raised.value.hint)
    with pytest.raises(PackageNotFound) as raised:
        resolve("triage:12", settings).package_folder()
    assert "http" not in str(raised.value.hint)


def test_packages_are_found_and_folders_are_where_they_are(settings: Settings, tmp_path: Path) -> None:
    folder = make_package(tmp_path / "foundry").folder
    packages.install(folder, settings.cache_dir)
    for name in ("foundry", "foundry:1", "foundry:v1"):
        assert resolve(name, settings).package_folder() == settings.cache_dir / "foundry" / "v1"
    assert resolve(folder, settings).package_folder() == folder
    assert resolve(str(folder), settings).package_folder() == folder


@pytest.mark.parametrize(
    ("text", "what"), [("foundry:triage", "a model of Foundry Local"), ("http://host", "the address of a server")]
)
def test_what_is_no_package_says_so_where_one_is_wanted(text: str, what: str, settings: Settings) -> None:
    with pytest.raises(PackageNotFound, match=f"that is {what}, and a package is wanted here"):
        resolve(text, settings).package_folder()


def test_foundry_can_be_left_out_where_nothing_else_is_meant(settings: Settings) -> None:
    for text, name in (("triage", "triage"), ("foundry:triage:2", "triage:2"), ("foundry:1", "foundry:1")):
        found = targets.foundry(text, settings)
        assert (found.kind, found.name) == ("foundry", name)


@pytest.mark.parametrize("options", [{"model": "x"}, {"api_key": "x"}])
def test_only_a_server_has_models_and_a_key(options: dict[str, str], settings: Settings) -> None:
    for text in ("triage", "foundry:triage"):
        with pytest.raises(UsageError, match="only a server"):
            resolve(text, settings).open(**options)  # type: ignore[arg-type]


def test_a_server_is_not_opened_apart(settings: Settings) -> None:
    with pytest.raises(PackageNotFound, match="the address of a server"):
        resolve("http://127.0.0.1:9", settings).open_apart()


@pytest.mark.slow
def test_apart_each_has_a_process_of_its_own(
    example: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Target, "registered_folder", lambda _: example)
    question = Conversation([{"role": "user", "content": "hello"}])
    for text, shows_tokens in ((example, True), ("foundry:triage", False)):
        with resolve(text, replace(settings, threads=1)).open_apart(Limits(slots=1)) as chat:
            assert chat.pid != os.getpid()
            assert (next(chat.converse(question, Sampling(max_tokens=1))).id is not None) == shows_tokens


@pytest.mark.slow
def test_a_package_answers_by_name_and_by_folder(example: Path, settings: Settings) -> None:
    packages.install(example, settings.cache_dir)
    for text in ("triage", example):
        with resolve(text, replace(settings, threads=1)).open(limits=Limits(slots=1)) as chat:
            assert chat.stats().slots == 1
            question = Conversation([{"role": "user", "content": "hello"}])
            assert next(chat.converse(question, Sampling(max_tokens=1))).id is not None
