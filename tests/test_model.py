"""The Python API's Model over a scripted engine: what is asked reaches the chat, and answers come back whole."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import edgeship
from edgeship.errors import AnswerInvalid, ConstraintInvalid, PromptInvalid, UsageError
from edgeship.model import Asking
from tests.scripted import ScriptedEngine

ANSWER = '{"intent": "refund", "order": "S-1"}'
SCHEMA = {
    "type": "object",
    "properties": {"intent": {"type": "string"}, "order": {"type": "string"}},
    "required": ["intent", "order"],
    "additionalProperties": False,
}


class Ticket(BaseModel):
    intent: str
    order: str


class Picky(Ticket):
    @field_validator("order")
    @classmethod
    def _has_a_long_number(cls, order: str) -> str:
        if len(order) < 10:
            raise ValueError("an order has ten characters")
        return order


@pytest.fixture
def model() -> Iterator[edgeship.Model]:
    answers = {"refund": ANSWER, "hello": "Good day.", "long": "one two three " * 50}
    with edgeship.Model(ScriptedEngine(answers, context_tokens=2000)) as opened:
        yield opened


def test_a_text_and_a_conversation(model: edgeship.Model) -> None:
    assert model.ask("hello").text == "Good day."
    answer = model.ask([{"role": "user", "content": "refund"}], max_tokens=5)
    assert (answer.text, answer.finish, answer.parsed) == (ANSWER[:5], "length", None)


def test_instructions_stand_before_the_conversation(model: edgeship.Model) -> None:
    asked = model.ask("hello", system="Be kind.").usage.prompt_tokens
    assert asked > model.ask("hello").usage.prompt_tokens


def test_a_stream_gives_pieces_and_ends_when_it_is_left(model: edgeship.Model) -> None:
    assert "".join(piece.text for piece in model.stream("hello")) == "Good day."
    for piece in model.stream("long"):
        assert piece.text
        break
    assert model.ask("hello").text == "Good day."


@pytest.mark.parametrize("schema", [SCHEMA, json.dumps(SCHEMA)])
def test_a_schema_gives_its_value(model: edgeship.Model, schema: Any) -> None:
    assert model.ask("refund", schema=schema).parsed == {"intent": "refund", "order": "S-1"}


def test_a_pydantic_model_gives_an_instance(model: edgeship.Model) -> None:
    assert model.ask("refund", schema=Ticket).parsed == Ticket(intent="refund", order="S-1")


def test_a_schema_in_openais_wrapper(model: edgeship.Model) -> None:
    wrapped = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": SCHEMA}}
    assert model.ask("refund", schema=wrapped).parsed == {"intent": "refund", "order": "S-1"}


def test_an_answer_that_was_cut_has_no_value(model: edgeship.Model) -> None:
    answer = model.ask("refund", schema=Ticket, max_tokens=4)
    assert (answer.finish, answer.parsed) == ("length", None)


def test_what_a_pydantic_model_demands_beyond_its_schema_is_told(model: edgeship.Model) -> None:
    with pytest.raises(AnswerInvalid, match="ten characters") as caught:
        model.ask("refund", schema=Picky)
    assert isinstance(caught.value.answer, edgeship.Answer)
    assert caught.value.answer.text == ANSWER


def test_an_answer_that_a_stop_text_cuts_is_told_with_what_there_is(model: edgeship.Model) -> None:
    with pytest.raises(AnswerInvalid, match="does not fit the schema") as caught:
        model.ask("refund", schema=Ticket, stop=[","])
    assert isinstance(caught.value.answer, edgeship.Answer)
    assert caught.value.answer.text == '{"intent": "refund"'


def test_regular_expressions_and_grammars(model: edgeship.Model) -> None:
    assert model.ask("hello", regex="(yes|no)").text in ("yes", "no")
    assert model.ask("hello", grammar='start: "maybe"').text == "maybe"


def test_a_schema_may_be_read_leniently(model: edgeship.Model) -> None:
    schema = {"enum": ["yes"], "not": {"const": "no"}}
    with pytest.raises(ConstraintInvalid, match="not at # cannot be enforced"):
        model.ask("hello", schema=schema)
    assert model.ask("hello", schema=schema, schema_lenient=True).parsed == "yes"
    with pytest.raises(UsageError, match="schema_lenient is 'yes'; it must be True or False"):
        model.ask("hello", schema=schema, schema_lenient="yes")  # type: ignore[arg-type]


def test_what_cannot_be_asked(model: edgeship.Model) -> None:
    with pytest.raises(UsageError, match="schema and regex exclude each other"):
        model.ask("hello", schema=SCHEMA, regex="a")
    with pytest.raises(UsageError, match="'temprature' is no setting") as caught:
        model.ask("hello", temprature=0.5)  # type: ignore[call-arg]
    assert "temperature" in (caught.value.hint or "")
    with pytest.raises(PromptInvalid, match="temperature"):
        model.ask("hello", temperature=-1.0)
    with pytest.raises(PromptInvalid, match="no message"):
        model.ask([])


TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"properties": {"n": {"const": 1}}, "required": ["n"]}},
    }
    for name in ("one", "two")
]


def test_functions_are_called(model: edgeship.Model) -> None:
    answer = model.ask("hello", tools=TOOLS, tool_choice="two", parallel_tool_calls=False)
    assert answer.finish == "tool_calls"
    assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [("two", {"n": 1})]
    assert model.ask("hello", tools=TOOLS, tool_choice="required", max_tokens=500).tool_calls
    for choice in ("auto", "none"):
        assert model.ask("hello", tools=TOOLS, tool_choice=choice).text == "Good day."
    with pytest.raises(PromptInvalid, match="no tool has that name"):
        model.ask("hello", tools=TOOLS, tool_choice="three")


def test_a_call_is_no_value_of_a_schema(model: edgeship.Model) -> None:
    answer = model.ask("hello", tools=TOOLS, tool_choice="one", parallel_tool_calls=False, schema=SCHEMA)
    assert (answer.finish, answer.parsed) == ("tool_calls", None)


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"system": 5}, "system is 5; it must be a text"),
        ({"tools": "search"}, "tools is 'search'; it must be a list"),
        ({"tool_choice": {}}, "tool_choice is {}; it must be 'auto', 'none', 'required' or the name of a function"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls is 'no'; it must be True or False"),
        ({"variables": [1]}, "variables is"),
        ({"regex": 5}, "regex is 5"),
        ({"grammar": b"x"}, "grammar is"),
        ({"sampling": {}}, "sampling is {}; it must be an edgeship.Sampling"),
        ({"stop": 5}, "stop is 5"),
        ({"stop": [5]}, "stop is"),
        ({"cancel": threading.Event}, "cancel is"),
        ({"deadline_s": "5"}, "deadline_s is '5'"),
        ({"schema": 5}, "schema is 5, which describes no answer"),
        ({"schema": {"a": {1}}}, "the schema is no JSON"),
        ({"temperature": "0.5"}, "temperature is '0.5'"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"seed": -1}, "seed is -1"),
        ({"logit_bias": {"a": 1}}, "logit_bias is"),
        ({"thinking_tokens": -1}, "thinking_tokens is"),
        ({"ignore_eos": "yes"}, "ignore_eos is 'yes'"),
    ],
)
def test_settings_of_a_wrong_type(model: edgeship.Model, how: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=re.escape(named)):
        model.ask("hello", **how)
    assert model.ask("hello").text == "Good day."


@pytest.mark.parametrize("question", [None, 5, b"hello", {"role": "user", "content": "hello"}])
def test_a_question_is_a_text_or_a_list(model: edgeship.Model, question: Any) -> None:
    with pytest.raises(UsageError, match="a question is a text or a list of messages"):
        model.ask(question)


def test_none_is_as_if_it_were_left_out(model: edgeship.Model) -> None:
    how: dict[str, Any] = dict.fromkeys(Asking.__annotations__)
    assert model.ask("hello", **how).text == "Good day."


@dataclass
class Plain:
    intent: str
    order: str


def test_whatever_pydantic_can_describe_is_a_schema(model: edgeship.Model) -> None:
    assert model.ask("refund", schema=Plain).parsed == Plain("refund", "S-1")


def test_settings_stand_over_a_sampling(model: edgeship.Model) -> None:
    sampling = edgeship.Sampling(max_tokens=3, temperature=0.0)
    assert model.ask("hello", sampling=sampling).text == "Goo"
    assert model.ask("hello", sampling=sampling, max_tokens=4).text == "Good"


def test_a_stream_can_be_closed_while_it_is_held() -> None:
    engine = ScriptedEngine({"long": "one two three " * 1000}, context_tokens=20_000, slots=1, delay_s=0.001)
    with edgeship.Model(engine) as model:
        stream = model.stream("long")
        next(stream)
        stream.close()
        # There is one place only.
        assert model.ask("hello", max_tokens=3).text == "I d"
        assert next(stream, None) is None


def test_one_stop_text_or_several(model: edgeship.Model) -> None:
    assert model.ask("hello", stop=" day").text == "Good"
    assert model.ask("hello", stop=["x", "d "]).text == "Goo"


def test_cancelled_from_outside(model: edgeship.Model) -> None:
    cancel = threading.Event()
    cancel.set()
    assert model.ask("long", cancel=cancel).finish == "cancelled"
    assert model.ask("long", deadline_s=0.0).finish == "deadline"


# --- asyncio ---------------------------------------------------------------------------------------------------------


def test_answers_in_asyncio_are_those_of_threads(model: edgeship.Model) -> None:
    async def work() -> tuple[list[str], str, Any]:
        whole = await asyncio.gather(*(model.ask_async("hello") for _ in range(6)))
        pieces = [piece.text async for piece in model.stream_async("long")]
        value = (await model.ask_async("refund", schema=Ticket)).parsed
        return [answer.text for answer in whole], "".join(pieces), value

    whole, pieces, value = asyncio.run(work())
    assert whole == ["Good day."] * 6
    assert pieces == "one two three " * 50
    assert value == Ticket(intent="refund", order="S-1")


def test_errors_in_asyncio_are_raised_where_the_answer_is_awaited(model: edgeship.Model) -> None:
    with pytest.raises(PromptInvalid, match="temperature"):
        asyncio.run(_whole(model, temperature=-1.0))


def test_a_task_that_is_cancelled_frees_its_place() -> None:
    engine = ScriptedEngine({"long": "one two three " * 1000}, context_tokens=20_000, slots=1, delay_s=0.001)

    async def work(model: edgeship.Model) -> str:
        started = asyncio.Event()

        async def read() -> None:
            async for _ in model.stream_async("long"):
                started.set()

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # There is one place only: the second answer begins because the first is gone.
        return (await model.ask_async("hello", max_tokens=3)).text

    with edgeship.Model(engine) as model:
        assert asyncio.run(work(model)) == "I d"


def test_tasks_that_are_cancelled_while_their_answers_begin_leave_none_behind() -> None:
    engine = ScriptedEngine({"long": "one two three " * 1000}, context_tokens=20_000, slots=2, delay_s=0.001)

    async def work(model: edgeship.Model) -> str:
        for _ in range(5):
            tasks = [asyncio.create_task(model.ask_async("long")) for _ in range(8)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # All places are held for half a minute where one of them goes on.
        return (await asyncio.wait_for(model.ask_async("hello", max_tokens=3), timeout=120)).text

    with edgeship.Model(engine) as model:
        assert asyncio.run(work(model)) == "I d"
        assert model.chat.stats().waiting == 0


def test_a_stream_that_is_left_frees_its_place() -> None:
    engine = ScriptedEngine({"long": "one two three " * 1000}, context_tokens=20_000, slots=1, delay_s=0.001)

    async def work() -> str:
        async with edgeship.Model(engine) as model:
            stream = model.stream_async("long")
            async for _ in stream:
                break
            await stream.aclose()
            return (await model.ask_async("hello", max_tokens=3)).text

    assert asyncio.run(work()) == "I d"


def test_no_thread_waits_for_an_answer(model: edgeship.Model) -> None:
    async def work() -> int:
        streams = [model.stream_async("long") for _ in range(50)]
        for stream in streams:
            await anext(stream)
        threads = threading.active_count()
        for stream in streams:
            await stream.aclose()
        return threads

    before = threading.active_count()
    # What asyncio keeps for handing over a prompt is shared by all, and far fewer than the answers.
    assert asyncio.run(work()) - before < 40


async def _whole(model: edgeship.Model, **how: Any) -> edgeship.Answer:
    return await model.ask_async("hello", **how)
