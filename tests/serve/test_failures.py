"""What a client is told of what went wrong, and what only the log is."""

from __future__ import annotations

import logging

import pytest

from edgeship.errors import EngineBusy, EngineFailed, PromptInvalid
from edgeship.serve import failures
from edgeship.system.child import Died


@pytest.mark.parametrize("status", [-9, 1])
def test_the_last_words_of_a_models_process_are_for_the_log(status: int, caplog: pytest.LogCaptureFixture) -> None:
    died = Died(status, ["cannot read /srv/models/secret"])
    error = died.as_error(EngineFailed, "the engine's process")
    error.__cause__ = died
    assert failures.as_ours(error) is error
    assert "secret" not in str(failures.document("/v1/chat/completions", error))
    assert error.http_status >= 500
    assert "secret" in caplog.text


def test_what_a_client_can_mend_or_wait_for_is_told_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for error in (PromptInvalid("it is empty"), EngineBusy("all wait")):
            assert error.what in failures.told(error)
            failures.as_ours(error)
    assert not caplog.records
