"""The server that is started for what is validated: it has the target's settings, answers, and ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest

from edgeship.errors import EdgeshipError, EngineFailed
from edgeship.settings import Settings
from edgeship.targets import Target
from edgeship.validate import server
from edgeship.validate.conformance import CHECK as CONFORMANCE
from edgeship.validate.over_http import Request, exchange
from edgeship.validate.recovery import CHECK as RECOVERY
from edgeship.validate.run import validate
from edgeship.validate.server import Server, served, why_none
from edgeship.validate.subject import Against, Subject
from tests import chat_server


def test_a_real_package_conforms_and_recovers_by_one_server(int4_folder: Path, settings: Settings) -> None:
    target = Target("folder", str(int4_folder), replace(settings, threads=1))
    with Subject(target, Against(effort="quick")) as subject:
        verdict = validate(subject, checks=[CONFORMANCE, RECOVERY])
        here = subject.server
        assert here.pid is not None
        assert (settings.home / "servers" / f"{here.pid}.json").is_file()
    told = [finding.told for check in verdict.checks for finding in check.findings if finding.outcome == "fail"]
    assert not told
    assert "killed-while-served" in {finding.name for finding in verdict.checks[1].findings}
    assert not psutil.pid_exists(here.pid)
    assert not list((settings.home / "servers").iterdir())


def test_a_server_that_does_not_begin_says_why(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(EdgeshipError, match="the server that was started to be validated ended with status"):  # noqa: SIM117
        with served(Target("folder", str(tmp_path / "nowhere"), settings)):
            raise AssertionError("it began")


@pytest.mark.parametrize("models", [{"data": []}, {"data": [{}]}, ["m"], None, "no JSON"])
def test_a_server_that_does_not_say_what_it_serves_is_a_failure_of_it(models: Any) -> None:
    with (
        chat_server.serving(_nothing, lambda handler: handler.say(models)) as other,
        pytest.raises(EngineFailed, match="does not say which model it serves"),
    ):
        server._only_model(other.url.removesuffix("/v1"))


def _nothing(_: chat_server.Handler) -> None:
    raise AssertionError("it is not asked anything")


def test_a_server_that_is_gone_before_it_says_what_it_serves_is_a_failure_too() -> None:
    with pytest.raises(EngineFailed, match="does not say which model it serves"):
        server._only_model("http://127.0.0.1:9")


def test_without_what_the_server_needs_there_is_a_reason(settings: Settings) -> None:
    target = Target("package", "a", settings)
    assert why_none(target) is None
    with mock.patch.object(server, "_NEEDED", ("no_such_module",)):
        assert "no_such_module: pip install edgeship[serve]" in (why_none(target) or "")
        assert why_none(replace(target, kind="url")) is None


def test_nobody_there_is_an_answer_too() -> None:
    said = exchange(Server("http://127.0.0.1:9", "m", api_key="secret").place, Request("/health", method="GET"), 5.0)
    assert said.status is None
    assert said.fault
    assert said.fault.startswith("the connection broke")
    assert "secret" not in repr(Server("http://127.0.0.1:9", "m", api_key="secret"))
