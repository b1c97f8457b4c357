"""The switch of models that think."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from edgeship.engine.text import TextCodec
from edgeship.errors import RequestInvalid
from edgeship.serve import thoughts
from edgeship.serve.models import Opened
from edgeship.serve.openai.chat import ChatRequest
from edgeship.serve.openai.response_request import ResponseRequest
from tests import checkpoints
from tests.serve import serving

PLAIN = "{{ messages }}"


def opened(folder: Path, template: str, *, marks: bool = False) -> Opened:
    checkpoints.make_tokenizer(folder, template)
    if marks:
        path = str(folder / "tokenizer.json")
        tokenizer = Tokenizer.from_file(path)
        tokenizer.add_special_tokens(["<think>", "</think>"])
        tokenizer.save(path)
    return serving.opened(TextCodec(folder))


@pytest.mark.parametrize(
    ("template", "switch"),
    [
        ("{% if enable_thinking is defined and not enable_thinking %}{% endif %}", "enable_thinking"),
        ("{% if thinking %}{% endif %}", "thinking"),
        ("{% set thinking = true %}{{ message.thinking }}", None),
        (None, None),
    ],
)
def test_the_switch_is_a_variable_of_the_template(template: str | None, switch: str | None) -> None:
    assert thoughts.switch_of(template) == switch


def test_a_model_with_a_switch(tmp_path: Path) -> None:
    model = opened(tmp_path, "{% if thinking %}{% endif %}")
    assert thoughts.switched(model, True, "think") == {"thinking": True}
    assert thoughts.switched(model, False, "think") == {"thinking": False}
    assert thoughts.switched(model, None, "think") == {}


def test_a_model_that_does_not_think(tmp_path: Path) -> None:
    model = opened(tmp_path, PLAIN)
    assert thoughts.switched(model, False, "think") == {}
    with pytest.raises(RequestInvalid, match="think: model does not think") as caught:
        thoughts.switched(model, True, "think")
    assert caught.value.param == "think"


def test_a_model_that_always_thinks(tmp_path: Path) -> None:
    model = opened(tmp_path, PLAIN, marks=True)
    for wanted in (True, False):
        assert thoughts.switched(model, wanted, "think") == {}


def test_a_model_without_files() -> None:
    for wanted in (True, False):
        with pytest.raises(RequestInvalid, match="has no switch"):
            thoughts.switched(serving.opened(), wanted, "think")


def test_levels(tmp_path: Path) -> None:
    model = opened(tmp_path, "{{ reasoning_effort }}")
    assert thoughts.effort(model, "low", "think") == {"reasoning_effort": "low"}
    assert thoughts.effort(model, None, "think") == {}
    assert thoughts.effort(model, "none", "think") == {"reasoning_effort": "none"}
    with pytest.raises(RequestInvalid, match="no levels"):
        thoughts.effort(serving.opened(), "low", "think")


def test_no_thinking_is_a_level_of_every_switch(tmp_path: Path) -> None:
    model = opened(tmp_path, "{% if thinking %}{% endif %}")
    assert thoughts.effort(model, "none", "think") == {"thinking": False}
    with pytest.raises(RequestInvalid, match="no levels"):
        thoughts.effort(model, "low", "think")


@pytest.mark.parametrize(("level", "tokens"), [(None, None), ("low", None), ("none", 0)])
def test_a_model_that_is_not_to_think_has_no_tokens_for_it(level: str | None, tokens: int | None) -> None:
    chat = ChatRequest.model_validate({"model": "m", "messages": [], "reasoning_effort": level})
    response = ResponseRequest.model_validate({"model": "m", "input": "a", "reasoning": {"effort": level}})
    assert [chat.sampling().thinking_tokens, response.sampling().thinking_tokens] == [tokens, tokens]


def test_a_variable_that_the_template_does_not_read_is_refused(tmp_path: Path) -> None:
    model = opened(tmp_path, "{{ messages }}{% if deep %}{% endif %}")
    assert thoughts.checked(model, {"deep": 1}) == {"deep": 1}
    assert thoughts.checked(model, None) == {}
    with pytest.raises(RequestInvalid, match="has no such variable") as caught:
        thoughts.checked(model, {"deep": 1, "enable_thinking": False})
    assert caught.value.param == "chat_template_kwargs.enable_thinking"
    assert thoughts.checked(serving.opened(), {"any": 1}) == {"any": 1}
