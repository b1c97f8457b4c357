"""Steps of an answer as items and events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeship.engine.api import CallPiece, Logprob, Token, ToolCall, Usage
from edgeship.engine.text import TextCodec
from edgeship.errors import EngineFailed, PromptInvalid
from edgeship.serve.openai.response_output import Event, Output
from tests import checkpoints

USAGE = Usage(3, 5, 0.0, 0.0, cached_tokens=2, reasoning_tokens=1)


def told(*steps: Token) -> tuple[list[Event], dict[str, Any]]:
    output = Output({"id": "resp_1"})
    events = output.begin()
    for step in steps:
        events += output.take(step)
    return events, output.response


def test_thoughts_text_and_calls_are_items_one_after_another() -> None:
    events, response = told(
        Token(None, "", thinking="Hm"),
        Token(None, "", thinking="."),
        Token(None, "I "),
        Token(None, "look."),
        Token(None, "", calling=(CallPiece(0, "c1", "weather", "{"),)),
        Token(
            None,
            "",
            calling=(CallPiece(0, None, None, "}"), CallPiece(1, "c2", "time", "{}")),
            tool_calls=(ToolCall("c1", "weather", "{}"), ToolCall("c2", "time", "{}")),
        ),
        Token(None, "", finish="tool_calls", usage=USAGE),
    )
    thoughts, answer, first, second = response["output"]
    assert thoughts["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert answer["content"][0]["text"] == "I look."
    told_calls = [(call["call_id"], call["name"], call["arguments"]) for call in (first, second)]
    assert told_calls == [("c1", "weather", "{}"), ("c2", "time", "{}")]
    assert {item["status"] for item in response["output"]} == {"completed"}
    part = ["content_part.done", "output_item.done"]
    delta, called = "function_call_arguments.delta", ("function_call_arguments.done", "output_item.done")
    assert [event["type"].removeprefix("response.") for event in events] == [
        *("created", "in_progress"),
        *("output_item.added", "content_part.added", *["reasoning_text.delta"] * 2, "reasoning_text.done", *part),
        *("output_item.added", "content_part.added", *["output_text.delta"] * 2, "output_text.done", *part),
        *("output_item.added", delta, delta, *called),
        *("output_item.added", delta, *called),
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    places = [event["output_index"] for event in events[2:-1]]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2, 3}


def test_each_event_of_an_item_has_its_id() -> None:
    events, response = told(Token(None, "x"), Token(None, "", finish="stop", usage=USAGE))
    [item] = response["output"]
    ids = {event.get("item_id") or event["item"]["id"] for event in events[2:-1]}
    assert ids == {item["id"]}


def test_an_answer_that_reached_its_limit_is_incomplete() -> None:
    events, response = told(Token(None, "x"), Token(None, "", finish="length", usage=USAGE))
    assert events[-1]["type"] == "response.incomplete"
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["completed_at"] is None
    assert response["output"][0]["status"] == "incomplete"


def test_a_call_that_was_cut_is_incomplete() -> None:
    _, response = told(
        Token(
            None,
            "",
            calling=(CallPiece(0, "c1", "time", "{}"), CallPiece(1, "c2", "time", "{")),
            tool_calls=(ToolCall("c1", "time", "{}"),),
        ),
        Token(None, "", finish="length", usage=USAGE),
    )
    assert [(item["call_id"], item["status"]) for item in response["output"]] == [
        ("c1", "completed"),
        ("c2", "incomplete"),
    ]


def test_an_answer_without_a_word_has_an_empty_message() -> None:
    _, response = told(Token(7, "", finish="stop", usage=USAGE))
    assert [item["content"][0]["text"] for item in response["output"]] == [""]
    assert response["completed_at"]


def test_what_it_cost() -> None:
    _, response = told(Token(7, "", finish="stop", usage=USAGE))
    assert response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 8,
    }


def test_a_response_that_failed_says_why_and_no_more_than_that() -> None:
    output = Output({"id": "resp_1"})
    output.begin()
    output.take(Token(None, "x"))
    event = output.failed(EngineFailed("cannot read /home/somebody/model.onnx"))
    assert event["type"] == "response.failed"
    assert event["response"]["status"] == "failed"
    assert event["response"]["error"]["code"] == "engine_failed"
    assert "/home" not in event["response"]["error"]["message"]
    assert output.failed(PromptInvalid("too hot")).get("response", {})["error"]["message"] == "too hot"


def test_log_probabilities_are_told_with_the_text_that_their_tokens_make(tmp_path: Path) -> None:
    checkpoints.make_tokenizer(tmp_path)
    codec = TextCodec(tmp_path)
    output = Output({"id": "resp_1"})
    [thought, *tokens] = codec.encode("hé").tokens
    spelled = dict(zip((0, thought, *tokens), codec.spell((0, thought, *tokens)), strict=True))
    events = output.take(Token(thought, "", logprob=Logprob(-9.0), thinking="h"), spelled)
    for token in tokens:  # only the last one completes the character
        found = Logprob(-0.5, ((token, -0.5),))
        events += output.take(Token(token, "é" if token == tokens[-1] else "", logprob=found), spelled)
    events += output.take(Token(0, "", logprob=Logprob(-1.0), finish="stop", usage=USAGE), spelled)
    [delta] = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [entry["logprob"] for entry in delta["logprobs"]] == [-0.5] * len(tokens)
    assert delta["logprobs"][0]["top_logprobs"][0]["logprob"] == -0.5
    assert output.response["output"][1]["content"][0]["logprobs"] == delta["logprobs"]
