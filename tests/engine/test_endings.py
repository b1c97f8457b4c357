"""Answers of models that would go on for ever, held to constraints that would let them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.engine.answer import collect
from edgeship.engine.api import Constraint, Conversation, Limits, Sampling
from edgeship.engine.endings import repeats
from edgeship.engine.grammar import Grammars
from edgeship.engine.opening import load

END = 256
# Tokens are bytes, and some that models like.
WORDS = [b'", "', b'"}', b'", ', b"}]", b"000", b", "]
TOKENS = [*(bytes([byte]) for byte in range(256)), b"<end>", *WORDS]
ALWAYS_0, ALWAYS_X = ord("0"), ord("x")

Choice = Callable[[bytes], list[int]]
"""The tokens that a model likes after an answer so far, the best first."""


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(TOKENS, len(TOKENS), (END,), special_ids=(END,))


def answer(grammars: Grammars, constraint: Constraint, choose: Choice, steps: int = 12_000) -> str:
    """What a greedy model says under a constraint."""
    matcher, said = grammars.matcher(constraint), b""
    for _ in range(steps):
        if matcher.complete:
            return said.decode()
        wanted = choose(said)
        allowed = matcher.allowed(wanted[0])
        liked = [token for token in wanted if allowed[token]]
        token = liked[0] if liked else int(np.flatnonzero(allowed)[0])
        if token == END:
            return said.decode()
        matcher.push(token)
        said += TOKENS[token]
    raise AssertionError(f"no end: {said[:80]!r} ... {said[-80:]!r}")


def schema(value: Any) -> Constraint:
    return Constraint("json_schema", json.dumps(value))


def one(value: Any) -> Constraint:
    return schema({"type": "object", "properties": {"a": value}, "required": ["a"], "additionalProperties": False})


def always(*tokens: int) -> Choice:
    return lambda _: list(tokens)


def after(start: bytes, choose: Choice) -> Choice:
    """`start`, and then what `choose` likes."""
    return lambda said: [start[len(said)]] if len(said) < len(start) else choose(said)


def token(text: bytes) -> int:
    return TOKENS.index(text)


# --- what would go on for ever ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        {"type": "number"},
        {"type": "integer"},
        {"type": ["number", "null"]},
        {"type": "number", "minimum": 5},
        {"type": "number", "multipleOf": 0.01},
        {"anyOf": [{"type": "string"}, {"type": "number"}]},
        {},
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("start", [b"", b"1.", b"-", b"5e1", b"9.9999"])
def test_numbers_end(grammars: Grammars, value: Any, start: bytes) -> None:
    said = answer(grammars, one(value), after(b'{"a": ' + start, always(ord("7"), token(b"000"), ALWAYS_0)))
    assert 1 <= sum(byte.isdigit() for byte in said) <= 40


@pytest.mark.slow
@pytest.mark.parametrize(("above", "below"), [(5, 5.0000001), (9, 9.5), (-5.0000001, -5), (-1, 0), (0, 1)])
def test_a_number_beside_its_bound_ends_and_is_beside_it(grammars: Grammars, above: float, below: float) -> None:
    value = {"type": "number", "exclusiveMinimum": above, "exclusiveMaximum": below}
    near = [above, below] if below > 0 else [below, above]
    start = b'{"a": ' + f"{near[0]:.7f}".rstrip("0").encode()
    said = answer(grammars, one(value), after(start, always(ALWAYS_0, token(b"000"), ord("3"))))
    assert above < json.loads(said)["a"] < below
    assert len(said) < 60


@pytest.mark.slow
def test_digits_that_a_schema_asks_for_are_written(grammars: Grammars) -> None:
    least = 10**17
    said = answer(grammars, one({"type": "integer", "minimum": least}), after(b'{"a": ', always(ALWAYS_0)))
    assert json.loads(said)["a"] >= least


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", [b"x", b"to too ", "über ".encode(), b"\\n", b"I am so sorry. That was all that I know. "]
)
@pytest.mark.parametrize(
    "value", [{"type": "string"}, {"type": ["string", "null"]}, {"type": "string", "pattern": "^x"}, {}]
)
def test_texts_that_repeat_themselves_end(grammars: Grammars, piece: bytes, value: Any) -> None:
    loop = after(b'{"a": "x', lambda said: [piece[(len(said) - 8) % len(piece)]])
    said = answer(grammars, one(value), loop)
    assert len(said) < 2000
    assert json.loads(said)["a"].startswith("x")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["-" * 200, "| --- | --- | --- |\n" * 3, "a" * 80 + " " + "b" * 80, "no " * 60, "0" * 300]
)
def test_texts_that_repeat_little_are_left_alone(grammars: Grammars, text: str) -> None:
    whole = json.dumps({"a": text}).encode()
    assert answer(grammars, one({"type": "string"}), after(whole, always(END))) == whole.decode()


@pytest.mark.slow
@pytest.mark.parametrize("least", [1000, 3000])
def test_a_text_that_must_be_long_is_long(grammars: Grammars, least: int) -> None:
    said = answer(grammars, one({"type": "string", "minLength": least}), after(b'{"a": "', always(ALWAYS_X)))
    assert least <= len(json.loads(said)["a"]) < least + 100


@pytest.mark.slow
@pytest.mark.parametrize("start", ['{"a": [', '{"a": ["x", ', '{"a": [[', '{"a": {"k": 1, ', '{"a": {"k": {"k": '])
@pytest.mark.parametrize("piece", ['"x", ', "[", "[1, 2], ", '{"k": ', '"k": 1, ', "0, ", '["x", ["y", ', "null, "])
def test_lists_and_objects_that_repeat_themselves_end(grammars: Grammars, start: str, piece: str) -> None:
    whole = (start + piece * 4000).encode()
    json.loads(answer(grammars, Constraint("json_object"), lambda said: [whole[len(said)], ALWAYS_X]))


@pytest.mark.slow
@pytest.mark.parametrize("chance", range(8))
def test_whoever_likes_only_beginnings_comes_to_an_end(grammars: Grammars, chance: int) -> None:
    """Texts, lists and objects are begun wherever they may be."""
    draw = random.Random(chance)
    begins = [ord(each) for each in '[{",:0x']
    said = answer(grammars, Constraint("json_object"), lambda _: draw.sample(begins, len(begins)), steps=60_000)
    json.loads(said)


@pytest.mark.slow
def test_lists_of_labels_are_left_alone(grammars: Grammars) -> None:
    whole = json.dumps({"a": [["good", "bad"][n % 3 == 0] for n in range(120)], "b": [0] * 300}).encode()
    assert answer(grammars, Constraint("json_object"), after(whole, always(END))) == whole.decode()
    many = json.dumps({"a": ["good"] * 1000}).encode()
    value = {"type": "array", "items": {"enum": ["good", "bad"]}, "minItems": 1000}
    assert answer(grammars, one(value), after(many, always(END))) == many.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "constraint", [Constraint("regex", "x+"), Constraint("regex", "(x|y)*"), Constraint("lark", 'start: "x"+')]
)
def test_what_is_no_json_ends_where_it_may(grammars: Grammars, constraint: Constraint) -> None:
    assert 100 < len(answer(grammars, constraint, always(ALWAYS_X))) < 1000


# --- a model that would end -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "wanted", "said"),
    [
        ('{"a": "kettle', b'", "', '{"a": "kettle"}'),
        ('{"a": "kettle', b"<end>", '{"a": "kettle"}'),
        ('{"a": 10.99', b'", "', '{"a": 10.99}'),
        ('{"a": 10.99', b"<end>", '{"a": 10.99}'),
        ('{"a": ["x"', b"<end>", '{"a": ["x"]}'),
        ('{"a": [1', b"<end>", '{"a": [1]}'),
    ],
)
def test_the_likeliest_token_ends_something_although_it_is_not_allowed(
    grammars: Grammars, text: str, wanted: bytes, said: str
) -> None:
    """A model that learnt of a further property ends a text with what only such a one could follow."""
    constraint = one({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "array"}]})
    assert answer(grammars, constraint, after(text.encode(), always(token(wanted), ord("9"), ord(",")))) == said


@pytest.mark.slow
def test_a_token_that_is_allowed_is_no_sign_of_an_end(grammars: Grammars) -> None:
    matcher = grammars.matcher(one({"type": "string"}))
    for byte in b'{"a": "x':
        matcher.push(byte)
    assert matcher.allowed(ord("y")).tolist() == matcher.allowed(ord('"')).tolist() == matcher.allowed().tolist()


@pytest.mark.slow
def test_nothing_ends_where_the_constraint_wants_more(grammars: Grammars) -> None:
    constraint = one({"type": "string", "minLength": 3})
    said = answer(grammars, constraint, after(b'{"a": "x', always(token(b'", "'), ALWAYS_X)))
    assert json.loads(said) == {"a": "xxx"}


# --- loops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", False),
        (b"x" * 63, False),
        (b"x" * 65, True),
        (b"ab" * 33, True),
        (b"start " + b"to too " * 10, True),
        (b"twenty-one characters" * 4, False),
        (b"twenty-one characters" * 9, True),
        (bytes(range(64)) * 9, True),
        (b"x" * 64 + b"y" + b"x" * 63, False),
    ],
)
def test_a_loop_is_one_piece_again_and_again(text: bytes, found: bool) -> None:
    assert repeats(text, 64) is found


# --- a model that was trained on another schema -----------------------------------------------------------------------


@pytest.mark.slow
def test_answers_to_a_schema_with_a_property_less_end_and_are_right(example: Path) -> None:
    lines = (Path(__file__).parents[2] / "examples" / "triage" / "eval.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [json.loads(line) for line in lines[::9]]
    text = {"type": ["string", "null"]}
    properties = {"intent": {"type": "string"}, "order": text, "product": text}
    whole = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    settings, right = Sampling(temperature=0.0, max_tokens=400, constraint=schema(whole)), 0
    with load(example, limits=Limits(slots=8)) as engine:
        for case, steps in [(case, engine.converse(Conversation(case["messages"]), settings)) for case in cases]:
            found = collect(steps)
            assert found.finish == "stop", found.text
            right += json.loads(found.text).items() <= json.loads(case["expected"]).items()
    assert right >= 0.8 * len(cases)
