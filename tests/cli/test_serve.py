"""`edgeship serve`, `ps`, `stop` and `key`: what they refuse and print.

Servers that run: tests/serve/test_running.py.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeship.cli import main, serve
from edgeship.serve import key_file, register
from edgeship.serve.models import Pool
from edgeship.settings import Settings
from edgeship.store import packages
from tests.chat_server import Handler, serving
from tests.packages import make_package
from tests.serve.serving import card
from tests.store.test_attestations import verdict


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_an_address_that_others_reach_needs_keys(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "nothing", "--host", host]) == 2
    said = capsys.readouterr().err
    assert "no keys are asked for" in said
    assert "--insecure" in said


@pytest.mark.parametrize("more", [["--insecure"], ["--api-key-file", "keys"]])
def test_with_keys_or_by_ones_own_will_it_is_served(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["key", "add", "me", "--file", "keys"]) == 0
    assert main(["serve", "nothing", "--host", "0.0.0.0", *more]) == 4
    assert "nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--alias", "x"], "is no alias"),
        (["--kv-memory", "much"], "--kv-memory"),
        (["--max-body", "0"], "--max-body"),
        (["--memory", "x"], "--memory"),
        (["--port", "70000"], "--port"),
        (["--drain", "-1"], "--drain"),
        (["--deadline", "0"], "every answer would be cut"),
        (["--metrics-names", "mine"], "--metrics-names"),
        (["--api-key-file", "nowhere"], "no file of keys"),
    ],
)
def test_wrong_options_are_named(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *given]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "code", "exit_code"),
    [
        (["nothing"], "package-not-found", 4),
        (["--host", "0.0.0.0"], "usage", 2),
        (["--port", "many"], "usage", 2),
        (["--idle-timeout", "soon"], "usage", 2),
    ],
)
def test_what_ends_the_start_is_a_line_of_json_like_all_that_is_logged(
    given: list[str], code: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--log-json", *given]) == exit_code
    [line] = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["code"], told["exit_code"]) == ("error", code, exit_code)
    assert told["message"]
    assert told["hint"]


@pytest.mark.parametrize(("given", "shown"), [([], ["warning", "error"]), (["--log-level", "error"], ["error"])])
def test_what_goes_wrong_is_logged(given: list[str], shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*given, "serve", "nothing"]) == 4
    capsys.readouterr()
    for level in ("info", "warning", "error"):
        getattr(logging.getLogger("edgeship.serve"), level)("what is %s", level)
    assert [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()] == shown


def test_no_server_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ps"]) == 0
    assert "no server runs" in capsys.readouterr().err
    assert main(["ps", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"servers": []}
    assert main(["stop"]) == 4
    assert main(["stop", "8080"]) == 4
    assert "no server runs at port 8080" in capsys.readouterr().err


def test_what_the_release_gate_found_unfit_is_marked_where_it_is_served(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    package = make_package(tmp_path / "triage")
    installed, _ = packages.install(package.folder, settings.cache_dir, gate=verdict("fail"), force=True)
    cards = [card("triage", folder=installed.folder), card("far")]
    assert serve._in_words(Pool(cards, settings=settings)) == "triage (release gate: failed, forced), far"
    record = register.Record(settings.home, "http://127.0.0.1:1", 1)
    record.write("ready", {each.id: each.folder for each in cards})
    assert main(["ps"]) == 0
    assert "triage (release gate: failed, forced), far" in capsys.readouterr().out
    packages.attest(settings.cache_dir, installed.folder, package.digest, verdict("pass"))
    assert main(["ps", "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)["servers"]
    assert (listed["models"], listed["gates"]) == (["triage", "far"], {"triage": "pass"})
    packages.remove(settings.cache_dir, "triage")
    assert main(["ps"]) == 0
    assert "triage, far" in capsys.readouterr().out
    record.remove()


def test_a_key_is_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.toml"
    limits = ["--requests-per-minute", "6", "--tokens-per-minute", "500", "--concurrent", "2", "--priority", "3"]
    assert main(["key", "add", "team", "--file", str(file), *limits]) == 0
    key = capsys.readouterr().out.strip()
    [kept] = key_file.read(file)
    assert kept == key_file.Key("team", key_file.hash_of(key), 6, 500, 2, 3)
    assert key not in file.read_text(encoding="utf-8")
    assert main(["key", "add", "other", "--file", str(file), "--json"]) == 0
    made: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (made["name"], len(made["key"]) > 40) == ("other", True)
    assert main(["key", "ls", "--file", str(file), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["keys"]
    assert [each["name"] for each in listed] == ["team", "other"]
    assert "sha256" not in listed[0]
    assert main(["key", "ls", "--file", str(file)]) == 0
    assert "team" in capsys.readouterr().out
    assert main(["key", "remove", "team", "--file", str(file)]) == 0
    assert [each.name for each in key_file.read(file)] == ["other"]


def test_keys_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "keys.toml")
    assert main(["key", "add", "a b", "--file", file]) == 2
    assert main(["key", "add", "a", "--file", file, "--priority", "100000"]) == 2
    assert main(["key", "add", "a", "--file", file, "--concurrent", "0"]) == 2
    assert main(["key", "ls", "--file", file]) == 2
    assert main(["key", "remove", "a", "--file", file]) == 2
    assert "no file of keys" in capsys.readouterr().err


@pytest.mark.slow
def test_under_a_supervisor(own_home: Path, tmp_path: Path) -> None:
    """It is told when the server is ready and when it ends, and the log holds lines of JSON alone."""
    if sys.platform == "win32":
        pytest.skip("Windows has neither such signals nor such sockets")
    with serving(Handler.cut) as model, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(60)
        command = [sys.executable, "-m", "edgeship", "serve", model.url, "--port", "0", "--log-json"]
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "EDGESHIP_HOME": str(own_home)}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
            try:
                assert line.recv(100) == b"READY=1"
                process.send_signal(signal.SIGTERM)
                assert line.recv(100) == b"STOPPING=1"
                _, logged = process.communicate(timeout=60)
            finally:
                process.kill()
        assert process.returncode == 0
        assert [json.loads(each)["level"] for each in logged.splitlines()]
