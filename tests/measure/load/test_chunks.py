"""What is read out of a server's stream, and what is no answer at all."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.engine.completions import is_called
from edgeship.measure.load.records import Failure
from tests.measure.load.samples import chunk, read, usage

ROLE = (0.1, chunk("", role="assistant"))
END = (0.9, chunk(finish="length"))


def test_pieces_have_the_times_at_which_they_came() -> None:
    reply = read(ROLE, (0.2, chunk("a")), (0.3, chunk("b")), END, (0.95, usage(2)), (0.96, "[DONE]"))
    assert [(one.at_s, one.kinds, one.tokens) for one in reply.arrivals] == [
        (0.2, ("text",), None),
        (0.3, ("text",), None),
    ]
    assert (reply.end_s, reply.finish, reply.output_tokens, reply.prompt_tokens) == (0.9, "length", 2, 10)
    assert (reply.text, reply.failure) == ("ab", None)


def test_channels_are_told_apart() -> None:
    call = [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]
    reply = read((0.1, chunk(reasoning="h")), (0.2, chunk(reasoning_content="m")), (0.3, chunk(tool_calls=call)), END)
    assert [one.kinds for one in reply.arrivals] == [("thinking",), ("thinking",), ("call",)]


def test_an_empty_chunk_is_a_piece_but_for_the_first_that_says_whose_turn_it_is() -> None:
    reply = read(ROLE, (0.2, chunk("a")), (0.3, chunk("")), (0.4, chunk("", role="assistant")), END)
    assert [one.kinds for one in reply.arrivals] == [("text",), (), ()]


def test_usage_in_every_chunk_tells_how_many_tokens_each_holds() -> None:
    def told(content: str, tokens: int, finish: str | None = None) -> dict[str, Any]:
        return chunk(content, usage=usage(tokens)["usage"], finish=finish)

    reply = read((0.2, told("ab", 2)), (0.3, told("", 3)), (0.4, told("d", 4)), (0.5, told("", 5, "length")))
    assert [one.tokens for one in reply.arrivals] == [2, 1, 1, 1]


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([(0.1, "{broken"), END], "malformed-stream"),
        ([(0.1, "[1]"), END], "malformed-stream"),
        ([(0.1, {"choices": 7})], "malformed-stream"),
        ([(0.1, chunk(content=5))], "malformed-stream"),  # type: ignore[arg-type]
        ([(0.1, chunk("a")), (0.2, {"error": {"message": "out of memory"}})], "server-error"),
        ([(0.1, chunk("a", model="other")), END], "another-model"),
        ([(0.1, chunk("a"))], "cut-stream"),
        ([(0.1, chunk("a")), (0.2, chunk(finish="content_filter"))], "withheld"),
        ([ROLE, END], "empty-answer"),
    ],
)
def test_what_is_no_answer_is_an_error(events: list[tuple[float, Any]], kind: str) -> None:
    reply = read(*events)
    assert reply.failure is not None
    assert reply.failure.kind == kind


def test_what_ended_the_stream_early_is_told_before_what_is_missing() -> None:
    broke = Failure("remote-failed", "the connection broke")
    reply = read((0.1, chunk("a")), end_s=0.5, failure=broke)
    assert (reply.failure, reply.end_s, len(reply.arrivals)) == (broke, 0.5, 1)


@pytest.mark.parametrize(
    ("told", "asked", "same"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("llama3:latest", "llama3", True),
        ("/models/Qwen.gguf", "qwen", True),
        ("alias", "served", True),
        ("gpt-4o-mini", "gpt-4o", False),
        ("gpt-4", "gpt-4o", False),
    ],
)
def test_names_by_which_a_model_may_answer(told: str, asked: str, same: bool) -> None:
    assert is_called(told, asked, {"served", "alias"}) is same


def test_counts_beyond_all_sizes_are_none() -> None:
    reply = read(ROLE, (0.2, chunk("a")), END, (0.9, usage(10**400)))
    assert reply.output_tokens is None
