"""The recipes of docs/deploy.md: their commands can be typed, and their times fit what the server does."""

from __future__ import annotations

import json
import plistlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
import typer
import yaml

from edgeship.cli.app import app
from edgeship.serve.options import ServeOptions

PAGE = (Path(__file__).parent.parent / "docs" / "deploy.md").read_text(encoding="utf-8")
AFTER_DRAIN_S = 11
"""See the page: the connections that are closed, last words, and spans that are left."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def plist() -> dict[str, object]:
    [service] = [block for block in blocks("xml") if "plist" in block]
    found: dict[str, object] = plistlib.loads(service.encode())
    return found


def windows_service() -> ElementTree.Element:
    [service] = [block for block in blocks("xml") if "plist" not in block]
    return ElementTree.fromstring(service)


def commands() -> Iterator[list[str]]:
    """What follows `edgeship`, of every recipe."""
    for block in [*blocks("sh"), *blocks("ini")]:
        for line in re.findall(r"(?:^|[ /=])edgeship ((?:serve|stop|key|cache) .*)$", block, re.MULTILINE):
            yield shlex.split(line)
    for name in ("startarguments", "stoparguments"):
        yield shlex.split(windows_service().findtext(name) or "")
    [containerfile] = blocks("dockerfile")
    told = {name: json.loads(value) for name, value in re.findall(r"^(ENTRYPOINT|CMD) (\[.*)$", containerfile, re.M)}
    yield [*told["ENTRYPOINT"][1:], *told["CMD"]]
    arguments = plist()["ProgramArguments"]
    assert isinstance(arguments, list)
    yield arguments[1:]


@pytest.mark.parametrize("arguments", list(commands()), ids=" ".join)
def test_commands_can_be_typed(arguments: list[str]) -> None:
    command = typer.main.get_command(app)
    rest = list(arguments)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context("edgeship", rest)  # raises for what there is not


def test_all_recipes_are_looked_at() -> None:
    assert len(list(commands())) == 10


def test_options_in_the_text_are_those_of_the_server() -> None:
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    there = {name for parameter in serve.params for name in parameter.opts}
    dockers = {"--cpus", "--memory", "--log-opt"}
    text = re.sub(r"^```.*?^```", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(--[a-z-]+)", text)) - dockers - {"--cache-dir"} <= there


def test_supervisors_wait_for_longer_than_the_server_takes_to_end() -> None:
    at_least_s = ServeOptions().drain_s + AFTER_DRAIN_S
    stated = [
        *re.findall(r"(?:TimeoutStopSec=|--stop-timeout |terminationGracePeriodSeconds: )(\d+)", PAGE),
        (windows_service().findtext("stoptimeout") or "").removesuffix(" sec"),
        plist()["ExitTimeOut"],
    ]
    assert len(stated) == 5
    assert all(int(str(each)) > at_least_s for each in stated)


def test_probes_ask_what_there_is() -> None:
    from edgeship.serve.health import router

    there = {getattr(route, "path", None) for route in router.routes}
    assert set(re.findall(r"(/health/\w+|/metrics\b)", PAGE)) <= there
    for block in blocks("yaml"):
        assert yaml.safe_load(block)
