"""Answers of each API as they are read, and errors in their forms."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeship.validate.edges import apis
from edgeship.validate.edges.row import LEFT_OUT, Surface
from edgeship.validate.over_http import Reply

ERROR = {"message": "no", "type": "invalid_request_error"}


def reply(found: Any, status: int = 200) -> Reply:
    body = found if isinstance(found, bytes) else json.dumps(found).encode()
    return Reply(status, body, "whole", 0.1)


OPENAI = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
OTHERS = {"usage": {"input_tokens": 3, "output_tokens": 2}}
ANSWERS: dict[Surface, dict[str, Any]] = {
    "chat": {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], **OPENAI},
    "completions": {"choices": [{"text": "Hi", "finish_reason": "stop"}], **OPENAI},
    "messages": {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", **OTHERS},
    "responses": {
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
        "status": "completed",
        **OTHERS,
    },
    "ollama": {
        "message": {"content": "Hi"},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 3,
        "eval_count": 2,
    },
}


@pytest.mark.parametrize(("surface", "found"), ANSWERS.items())
def test_an_answer_is_read(surface: Surface, found: Any) -> None:
    heard = apis.read(surface, reply(found), form=True)
    assert (heard.text, heard.finish, heard.prompt_tokens, heard.made_tokens) == ("Hi", "stop", 3, 2)
    assert heard.fault is None
    assert apis.read(surface, reply({"other": 1}), form=False).fault
    assert apis.read(surface, reply(json.loads(json.dumps(found).replace('"Hi"', "7"))), form=False).fault
    assert apis.read(surface, reply(b"\xff"), form=False).fault


def events(*found: Any, end: bytes = b"data: [DONE]\n\n") -> Reply:
    return reply(b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in found) + end)


def piece(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


def test_a_stream_is_read_to_its_end() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    heard = apis.read("stream", events(piece("H"), piece("i", "stop"), usage), form=True)
    assert (heard.text, heard.finish, heard.made_tokens, heard.fault) == ("Hi", "stop", 2, None)
    assert "its last event is not" in (apis.read("stream", events(piece("H"), end=b""), form=True).fault or "")
    assert apis.read("stream", events(piece("H"), end=b"data: {\n\ndata: [DONE]\n\n"), form=True).fault


@pytest.mark.parametrize(("error", "status"), [({"code": 503}, 503), (ERROR, 400), ({"type": "x"}, 500), ("no", 500)])
def test_a_refusal_within_a_stream_counts_as_one(error: Any, status: int) -> None:
    assert apis.read("stream", events(piece("H"), {"error": error}), form=True).status == status


@pytest.mark.parametrize(
    ("surface", "right"),
    [("chat", {"error": ERROR}), ("messages", {"type": "error", "error": ERROR}), ("ollama", {"error": "no"})],
)
def test_an_error_has_the_form_of_its_api(surface: Surface, right: Any) -> None:
    assert apis.read(surface, reply(right, 400), form=True).fault is None
    others: tuple[Any, ...] = ({"detail": "no"}, {"error": {}}, [], b"<html>")
    for wrong in others:
        assert apis.read(surface, reply(wrong, 400), form=True).fault
        assert apis.read(surface, reply(wrong, 400), form=False).fault is None


def test_a_body_says_what_it_leaves_out_and_what_it_is_given() -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    assert apis.body_for("chat", "m", body) == {"model": "m", "temperature": 0, **body}
    assert "model" not in apis.body_for("chat", None, body)
    assert "max_tokens" not in apis.body_for("chat", "m", body | {"max_tokens": LEFT_OUT})
    assert apis.body_for("ollama", "m", body)["options"] == {"num_predict": 4, "temperature": 0}
    assert apis.body_for("stream", "m", body)["stream"] is True
    assert apis.body_for("chat", "m", body | {"stream": "perhaps"})["stream"] == "perhaps"
