"""Messages, tools and calls between clients and templates."""

from __future__ import annotations

import pytest

from edgeship.engine.api import ToolCall
from edgeship.errors import AnswerInvalid
from edgeship.serve.messages import read_arguments


def test_what_a_function_is_called_with() -> None:
    assert read_arguments(ToolCall("1", "f", '{"a": [1]}')) == {"a": [1]}


@pytest.mark.parametrize("written", ["", "[]", "{", '{"a": 1, "a": 2}'])
def test_what_another_servers_model_may_write(written: str) -> None:
    with pytest.raises(AnswerInvalid, match="the model calls 'f' with what is no JSON object"):
        read_arguments(ToolCall("1", "f", written))
