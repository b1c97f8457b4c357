from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

from edgeship.engine.api import Constraint
from edgeship.engine.grammar import Grammars, Matcher, require_usable
from edgeship.engine.text import TextCodec
from edgeship.errors import ConstraintInvalid, DependencyMissing, EngineFailed
from tests import checkpoints

EXAMPLE = Path(__file__).parents[2] / "examples" / "triage"
TOKENIZER = EXAMPLE / "checkpoint" / "tokenizer.json"
SIZE = 1024
END, TURN = 256, 257
BYTES = [*(bytes([byte]) for byte in range(256)), b"<end>", b"<turn>"]
BLANKS = set(b" \t\r\n")

Walk = Callable[[Matcher, int], bytes]


def schema(properties: dict[str, Any], **more: Any) -> Constraint:
    whole = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return Constraint("json_schema", json.dumps(whole | more))


INTENTS = [
    "refund",
    "delivery_status",
    "damaged_item",
    "cancel_order",
    "change_address",
    "invoice_copy",
    "technical_help",
    "other",
]
TEXT = {"type": ["string", "null"]}
TRIAGE = schema({"intent": {"enum": INTENTS}, "order": TEXT, "product": TEXT, "name": TEXT})
PAIR = schema({"a": {"type": "string"}, "b": {"type": "integer"}})
ANY = Constraint("json_object")


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    """Tokens are bytes."""
    return Grammars(BYTES, len(BYTES), (END,), special_ids=(END, TURN))


@pytest.fixture(scope="module")
def triage() -> Grammars:
    return Grammars(TOKENIZER, SIZE, (2,))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return Tokenizer.from_file(str(TOKENIZER))


def pushed(matcher: Matcher, text: str) -> Matcher:
    for byte in text.encode():
        matcher.push(byte)
    return matcher


def takes(matcher: Matcher, text: str) -> bool:
    try:
        pushed(matcher, text)
    except EngineFailed:
        return False
    return True


def walk(matcher: Matcher, seed: int, first: Iterable[int] = (), steps: int = 400) -> bytes:
    """Bytes taken by chance among the allowed ones, and after a while those that lead to the end."""
    chance, taken = random.Random(seed), bytearray()
    for step in range(steps):
        if matcher.complete:
            return bytes(taken)
        allowed = set(np.flatnonzero(matcher.allowed()).tolist())
        if END in allowed and (step > 40 or chance.random() < 0.2):
            return bytes(taken)
        allowed.discard(END)
        # In a string nearly everything is allowed.
        ending = b'"' if len(allowed) > 60 else b'}]":0'
        wanted = [byte for byte in ending if byte in allowed] if step > 40 else []
        wanted = wanted or [byte for byte in first if byte in allowed]
        token = wanted[0] if wanted else chance.choice(sorted(allowed))
        matcher.push(token)
        taken.append(token)
    raise AssertionError(f"no end: {bytes(taken)!r}")


# --- what is let through ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_whatever_is_chosen_the_answer_fits_the_schema(grammars: Grammars, seed: int) -> None:
    constraint = schema(
        {
            "kind": {"enum": ["ä", "b c", None]},
            "count": {"type": "integer", "minimum": -3, "maximum": 120},
            "sure": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "maxItems": 3},
            "where": {"$ref": "#/$defs/place"},
        },
        **{"$defs": {"place": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^[A-Z]{2}$"}]}}},
    )
    answer = json.loads(walk(grammars.matcher(constraint), seed))
    assert list(answer) == ["kind", "count", "sure", "tags", "where"]
    assert answer["kind"] in ("ä", "b c", None)
    assert type(answer["count"]) is int
    assert -3 <= answer["count"] <= 120
    assert type(answer["sure"]) is bool
    assert 1 <= len(answer["tags"]) <= 3
    assert all(isinstance(tag, str) and len(tag) <= 3 for tag in answer["tags"])
    assert answer["where"] is None or re.fullmatch("[A-Z]{2}", answer["where"])


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_any_object_is_an_object(grammars: Grammars, seed: int) -> None:
    assert isinstance(json.loads(walk(grammars.matcher(ANY), seed)), dict)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_answers_match_the_regular_expression(grammars: Grammars, seed: int) -> None:
    pattern = r"[A-Z]{2}-[0-9]{3,5}(-[äü_]{2})?|[^a-z\x00-\x1f]{1,3}|none"
    text = walk(grammars.matcher(Constraint("regex", pattern)), seed).decode()
    assert re.fullmatch(pattern, text)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_answers_follow_the_grammar(grammars: Grammars, seed: int) -> None:
    lark = 'start: "(" item ("," item)* ")"\nitem: NUMBER | start\nNUMBER: /[1-9][0-9]?/'
    matcher = grammars.matcher(Constraint("lark", lark))
    text = walk(matcher, seed, first=b")").decode()
    assert re.fullmatch(r"[(),0-9]+", text)
    assert isinstance(eval(text.replace(")", ",)"), {"__builtins__": {}}), tuple)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([ANY, PAIR]))
def test_blanks_come_to_an_end(grammars: Grammars, seed: int, constraint: Constraint) -> None:
    """Even where the model takes one whenever it may; in strings nothing can be done."""
    matcher = grammars.matcher(constraint)
    chance, taken, blanks, text = random.Random(seed), bytearray(), 0, False
    while not matcher.complete and len(taken) < 300:
        allowed = [int(token) for token in np.flatnonzero(matcher.allowed()) if token != END]
        blank = [byte for byte in allowed if byte in BLANKS] if not text else []
        token = chance.choice(blank or [byte for byte in allowed if byte != ord("\\")])
        matcher.push(token)
        taken.append(token)
        text ^= token == ord('"')
        blanks = blanks + 1 if token in BLANKS and not text else 0
        assert blanks <= 42, bytes(taken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("indent", "separators", "taken"),
    [
        (None, (", ", ": "), True),
        (None, (",", ":"), True),
        (None, (",", ": "), False),
        (2, (",", ": "), True),
        (4, (",", ": "), True),
        ("\t", (",", ": "), True),
        (1, (",", ":"), True),
    ],
)
def test_every_usual_layout_can_be_written(
    grammars: Grammars, indent: int | str | None, separators: tuple[str, str], taken: bool
) -> None:
    value = {"a": [1, [], {"b": None}], "c": {"d": {"e": '\n ü \\ "'}}, "f": {}}
    text = json.dumps(value, indent=indent, separators=separators)
    assert takes(grammars.matcher(ANY), text) is taken


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ['{ "a": "x", "b": 1 }', '{"a": "x", "b": 1}', '{\n"a" : "x"\n,"b": 1}', '{\r\n  "a": "x",\r\n  "b": 1\r\n}'],
)
def test_other_layouts_can_be_written_where_the_beginning_says_so(grammars: Grammars, text: str) -> None:
    assert takes(grammars.matcher(PAIR), text)


@pytest.mark.slow
def test_escaped_characters_are_whole_ones(grammars: Grammars) -> None:
    """Models that learnt from json.dumps write ü as \\u00fc."""
    assert takes(grammars.matcher(PAIR), json.dumps({"a": "ü€\N{GRINNING FACE}", "b": 1}))
    assert not takes(grammars.matcher(PAIR), '{"a": "\\ud83d", "b": 1}')


@pytest.mark.slow
def test_a_schema_switches_nothing_in_the_library(grammars: Grammars) -> None:
    for options in ({"key_separator": " = "}, {"lenient": True, "whitespace_flexible": True}, "nonsense"):
        constraint = schema({"a": {"type": "integer"}}, **{"x-guidance": options})
        assert takes(grammars.matcher(constraint), '{"a": 1}')
        assert not takes(grammars.matcher(constraint), '{"a" = 1}')
        assert not takes(grammars.matcher(constraint), '{"a":  1}')
        with pytest.raises(ConstraintInvalid, match="uniqueItems at #/properties/a cannot be enforced"):
            grammars.matcher(schema({"a": {"type": "array", "uniqueItems": True}}, **{"x-guidance": options}))


# --- tokens without a choice ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_beginning_settles_the_layout_and_the_rest_is_forced(grammars: Grammars) -> None:
    for text, then in [
        ("{", ""),
        ('{"', 'a":'),
        ('{"a":', ""),
        ('{"a": ', '"'),
        ('{"a": "x"', ', "b": '),
        ('{"a":"x"', ',"b":'),
        ('{"a": "x", "b": 1}', ""),
        ("{\n", ""),
        ('{\n"', 'a"'),
        ('{\n"a": "x"', ""),
    ]:
        assert bytes(pushed(grammars.matcher(PAIR), text).forced()).decode() == then, text


@pytest.mark.slow
@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_nothing_else_is_allowed_where_a_byte_is_forced(grammars: Grammars, seed: int) -> None:
    chance, matcher = random.Random(seed), grammars.matcher(TRIAGE)
    for _ in range(60):
        for token in matcher.forced():
            assert np.flatnonzero(matcher.allowed()).tolist() == [token]
            matcher.push(token)
        if matcher.complete:
            break
        allowed = np.flatnonzero(matcher.allowed()).tolist()
        matcher.push(ord('"') if ord('"') in allowed else chance.choice(allowed))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "share"),
    [
        ({}, 0.36),
        ({"separators": (",", ":")}, 0.38),
        ({"ensure_ascii": True}, 0.36),
        ({"indent": 2}, 0.1),
        ({"indent": 4}, 0.08),
    ],
    ids=["one line", "compact", "escaped", "indent 2", "indent 4"],
)
def test_forced_tokens_are_those_that_the_tokenizer_makes(
    triage: Grammars, tokenizer: Any, layout: dict[str, Any], share: float
) -> None:
    lines = (EXAMPLE / "eval.jsonl").read_text(encoding="utf-8").splitlines()
    count = forced_count = 0
    for line in lines[::4]:
        answer = json.loads(json.loads(line)["expected"])
        tokens = tokenizer.encode(json.dumps(answer, **({"ensure_ascii": False} | layout))).ids
        matcher, place = triage.matcher(TRIAGE), 0
        while place < len(tokens):
            forced = matcher.forced()
            assert forced == tokens[place : place + len(forced)]
            if not forced:
                assert matcher.allowed()[tokens[place]]
            for token in forced or [tokens[place]]:
                matcher.push(token)
                place += 1
            forced_count += len(forced)
        assert matcher.complete
        count += len(tokens)
    assert forced_count / count >= share


@pytest.mark.slow
def test_a_word_is_not_forced_in_halves(tmp_path: Path) -> None:
    """What follows "ord" leaves a choice, so "ord" itself may be the beginning of a longer token."""
    checkpoints.make_tokenizer(tmp_path)
    source = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = source["model"]["vocab"]
    for merge in (["o", "r"], ["or", "d"], ["ord", "s"]):
        if "".join(merge) not in vocab:
            vocab["".join(merge)] = len(vocab)
            source["model"]["merges"].append(merge)
    path = tmp_path / "more.json"
    checkpoints.write_json(path, source)
    grammars = Grammars(path, len(vocab), (1,))
    matcher = grammars.matcher(Constraint("regex", "ord(s|x)"))
    assert matcher.forced() == []
    assert matcher.allowed()[[vocab["ords"], vocab["ord"]]].all()
    assert grammars.matcher(Constraint("regex", "ord(x|y)")).forced() == [vocab["ord"]]


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_answer_ends_where_it_may() -> None:
    grammars = Grammars(BYTES, len(BYTES), (TURN, END), special_ids=(END, TURN))
    matcher = grammars.matcher(Constraint("regex", "ab*|c"))
    assert np.flatnonzero(matcher.allowed()).tolist() == [ord("a"), ord("c")]
    matcher.push(ord("a"))
    assert np.flatnonzero(matcher.allowed()).tolist() == [ord("b"), END, TURN]
    assert not matcher.complete
    matcher.push(END)
    assert matcher.complete
    complete = pushed(grammars.matcher(Constraint("regex", "ab*|c")), "c")
    assert complete.complete
    assert complete.forced() == []
    assert np.flatnonzero(complete.allowed()).tolist() == [END, TURN]
    complete.push(TURN)
    assert complete.complete


@pytest.mark.slow
@pytest.mark.parametrize("text", ["{}", '{"a": 1}', "{\n}"])
def test_an_object_is_complete_with_its_last_bracket(grammars: Grammars, text: str) -> None:
    matcher = grammars.matcher(ANY)
    for byte in text.encode():
        assert not matcher.complete
        assert not matcher.allowed()[END]
        matcher.push(byte)
    assert matcher.complete
    assert np.flatnonzero(matcher.allowed()).tolist() == [END]
    matcher.push(END)
    assert matcher.complete


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "{", '{"a": "'])
def test_what_was_not_allowed_fails(grammars: Grammars, before: str) -> None:
    matcher = pushed(grammars.matcher(PAIR), before)
    with pytest.raises(EngineFailed, match="does not allow token 256") as failure:
        matcher.push(END)
    assert "<state>" not in str(failure.value)


@pytest.mark.slow
def test_ends_that_the_tokenizer_lacks_do_not_count() -> None:
    assert Grammars(TOKENIZER, 1100, (2, 1050, 5000)).matcher(ANY).allowed().sum() > 0
    for ends in ((), (1050,)):
        with pytest.raises(EngineFailed, match="no token that ends"):
            Grammars(TOKENIZER, 1100, ends).matcher(ANY)


# --- vocabularies -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", [SIZE, SIZE + 1, 1100, 1000])
def test_rows_without_a_token_are_never_allowed(tokenizer: Any, size: int) -> None:
    matcher = Grammars(TOKENIZER, size, (2,)).matcher(Constraint("regex", "(.|\n)*"))
    allowed = matcher.allowed()
    assert allowed.shape == (size,)
    assert allowed.dtype == np.bool_
    assert not allowed[SIZE:].any()
    special = {token for token in tokenizer.get_added_tokens_decoder() if token != 2}
    assert special
    assert not allowed[sorted(special)].any()
    assert allowed[2]
    assert allowed[:SIZE].sum() > 900


@pytest.mark.slow
def test_a_tokenizer_that_falls_back_to_bytes(tmp_path: Path) -> None:
    """As Llama 2 and Gemma have it: blanks are U+2581, and characters without a token are bytes."""
    vocab = {"<s>": 0, "</s>": 1} | {f"<0x{byte:02X}>": 2 + byte for byte in range(256)}
    for piece in ("\u2581", "a", "b", "x", '"', "{", "}", ":", ",", '":', "\u2581x"):
        vocab[piece] = len(vocab)
    source = {
        "added_tokens": [{"id": id_, "content": name, "special": True} | _PLAIN for name, id_ in [*vocab.items()][:2]],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": [['"', ":"], ["\u2581", "x"]],
            "byte_fallback": True,
            "fuse_unk": True,
        },
    }
    path = tmp_path / "tokenizer.json"
    checkpoints.write_json(path, source)
    tokens = Tokenizer.from_file(str(path)).encode('{"a": " x\u00fc"}', add_special_tokens=False).ids
    constraint = schema({"a": {"type": "string"}})
    matcher, place, forced_count = Grammars(path, len(vocab), (1,)).matcher(constraint), 0, 0
    while place < len(tokens):
        forced = matcher.forced()
        assert forced == tokens[place : place + len(forced)]
        for token in forced or [tokens[place]]:
            matcher.push(token)
            place += 1
        forced_count += len(forced)
    assert matcher.complete
    assert forced_count


@pytest.fixture(scope="module")
def llama_2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TextCodec]:
    """Words begin with U+2581, and the first one of a text is shown without."""
    folder = tmp_path_factory.mktemp("llama-2")
    vocab = {"<unk>": 0, "</s>": 1, "\u2581yes": 2, "\u2581no": 3, "yes": 4, "no": 5, "\u2581": 6, '\u2581{"': 7}
    for piece in 'yesno{}":a1':
        vocab.setdefault(piece, len(vocab))
    library = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    library.add_special_tokens(["</s>"])
    library.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    mark, strip = decoders.Replace("\u2581", " "), decoders.Strip(" ", 1, 0)
    library.decoder = decoders.Sequence([mark, decoders.ByteFallback(), decoders.Fuse(), strip])
    library.save(str(folder / "tokenizer.json"))
    checkpoints.write_json(folder / "tokenizer_config.json", {})
    return folder / "tokenizer.json", TextCodec(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("constraint", "pieces"),
    [
        (Constraint("regex", "(yes|no)"), ["\u2581no"]),
        (Constraint("regex", "(yes|no)"), ["\u2581yes"]),
        (Constraint("regex", "(yes|no)"), ["yes"]),
        (Constraint("regex", "(yes|no)"), ["\u2581", "no"]),
        (Constraint("lark", 'start: "yes" start?'), ["\u2581yes", "yes"]),
        (schema({"a": {"type": "integer"}}), ['\u2581{"', "a", '"', ":", "\u2581", "1", "}"]),
        (schema({"a": {"type": "integer"}}), ["{", '"', "a", '"', ":", "1", "1", "}"]),
        (ANY, ['\u2581{"', "a", '"', ":", '"', "\u2581", "n", '"', "}"]),
    ],
)
def test_a_first_word_may_carry_the_space_that_is_not_shown(
    llama_2: tuple[Path, TextCodec], constraint: Constraint, pieces: list[str]
) -> None:
    """A model may say under a constraint what it says without one."""
    path, codec = llama_2
    vocab = Tokenizer.from_file(str(path)).get_vocab()
    matcher = Grammars(path, len(vocab), (1,), space_first=codec.drops_first_space).matcher(constraint)
    tokens = [vocab[piece] for piece in pieces]
    for token in tokens:
        assert matcher.allowed(token)[token]
        matcher.push(token)
    assert matcher.complete or matcher.allowed()[1]
    assert codec.decode(tokens) == "".join(pieces).replace("\u2581", " ").removeprefix(" ")


@pytest.mark.slow
def test_one_space_at_most_goes_before_an_answer(llama_2: tuple[Path, TextCodec]) -> None:
    matcher = Grammars(llama_2[0], 20, (1,), space_first=True).matcher(Constraint("regex", "(yes|no)"))
    matcher.push(6)
    assert np.flatnonzero(matcher.allowed()).tolist() == [4, 5, 8, 11]
    plain = Grammars(llama_2[0], 20, (1,)).matcher(Constraint("regex", "(yes|no)"))
    assert np.flatnonzero(plain.allowed()).tolist() == [4, 5, 8, 11]


_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


# --- what cannot be used ----------------------------------------------------------------------------------------------

_MANY = json.dumps({"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(1000)}})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("json_schema", "{", "json schema cannot be used: it is no JSON schema: line 1, column 1"),
        ("json_schema", "", "it is no JSON"),
        ("json_schema", "[" * 100_000, "recursion"),
        ("json_schema", "[]", "is an object"),
        ("json_schema", "false", "is an object, and this is false"),
        ("json_schema", '{"a": NaN}', "expected value"),
        ("json_schema", '{"const": "\\ud800"}', "escape"),
        ("json_schema", '{"type": "strin"}', "Invalid type: strin"),
        ("json_schema", '{"not": {}}', "json schema cannot be kept: not at # cannot be enforced"),
        ("json_schema", '{"enum": []}', "Unsatisfiable"),
        ("json_schema", '{"$ref": "#"}', "a reference or a rule in it leads only to itself"),
        ("json_schema", '{"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#"}}}', "only to itself"),
        ("json_schema", '{"items": {"$ref": "#"}, "type": "array", "minItems": 1}', "without an end"),
        ("json_schema", _MANY, "name fewer optional properties"),
        ("json_schema", f'{{"items": {_MANY}, "type": "array"}}', "name fewer optional properties"),
        ("json_schema", f'{{"properties": {{"a": {_MANY}}}, "required": ["a"]}}', "name fewer optional properties"),
        ("lark", "start: a\na: start", "a reference or a rule in it leads only to itself"),
        ("json_schema", '{"$ref": "https://example.com/schema"}', "https://example.com/schema"),
        ("json_schema", '{"type": "string", "pattern": "(?=a)"}', "pattern at # cannot be enforced"),
        ("regex", "[", "regex cannot be used: .*\n.*\n.*\n.*unclosed character class"),
        ("regex", "(?=a)b", "look-ahead"),
        ("regex", "\ud800", "surrogates"),
        ("lark", "start: foo", 'unknown name: "foo"'),
        ("lark", "no grammar", "lark cannot be used"),
    ],
)
def test_constraints_that_cannot_be_held(grammars: Grammars, kind: Any, text: str, why: str) -> None:
    with pytest.raises(ConstraintInvalid, match=why) as failure:
        grammars.matcher(Constraint(kind, text))
    assert failure.value.hint
    grammars.matcher(ANY)


@pytest.mark.slow
def test_what_shows_in_mid_answer_is_the_constraints_fault_too(grammars: Grammars) -> None:
    matcher = grammars.matcher(Constraint("json_schema", f'{{"properties": {{"a": {_MANY}, "b": true}}}}'))
    with pytest.raises(ConstraintInvalid, match="name fewer optional properties") as failure:
        pushed(matcher, '{"a": {"p')
    assert failure.value.hint


_DEEP = """
import json, sys, threading
from edgeship.engine.api import Constraint
from edgeship.engine.grammar import Grammars
kind, count = sys.argv[1], int(sys.argv[2])
if kind == "lark":
    text = "start: a0\\n" + "".join(f"a{i}: a{i + 1}\\n" for i in range(count)) + f'a{count}: "x"'
else:
    parts = {f"d{i}": {"items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(count)}
    text = json.dumps({"$defs": parts | {f"d{count}": {"type": "null"}}, "$ref": "#/$defs/d0"})
grammars = Grammars([*(bytes([byte]) for byte in range(256)), b"<end>"], 257, (256,), special_ids=(256,))
def ask():
    assert grammars.matcher(Constraint(kind, text)).allowed().any()
    print("done")
threading.stack_size(1 << 20)
thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("json_schema", 3000), ("lark", 15_000)])
def test_deep_constraints_do_not_end_the_process(kind: str, count: int) -> None:
    done = subprocess.run([sys.executable, "-c", _DEEP, kind, str(count)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "most"), [("json_schema", 262_144), ("regex", 20_000), ("lark", 262_144)])
def test_constraints_may_be_too_long(grammars: Grammars, kind: Any, most: int) -> None:
    with pytest.raises(ConstraintInvalid, match=f"longer than {most}"):
        grammars.matcher(Constraint(kind, " " * (most + 1)))


@pytest.mark.slow
def test_a_text_that_would_be_read_for_too_long_at_every_step_is_refused(grammars: Grammars) -> None:
    for kind in ("const", "pattern", "default"):
        with pytest.raises(ConstraintInvalid, match="a text of more than 20000"):
            grammars.matcher(schema({"a": {kind: "x" * 250_000}}))
    with pytest.raises(ConstraintInvalid, match="a text of more than 20000"):
        grammars.matcher(Constraint("lark", f'start: "{"x" * 250_000}"'))
    assert takes(grammars.matcher(schema({"a": {"const": "x" * 2000}})), json.dumps({"a": "x" * 2000}))
    many = [f"{number} {'x' * 90}" for number in range(2000)]
    assert takes(grammars.matcher(schema({"a": {"enum": many}})), json.dumps({"a": many[1999]}))


@pytest.mark.slow
def test_what_the_first_step_shows_to_be_too_much_work_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeship.engine.grammar._STEP_FUEL", 10)
    with pytest.raises(ConstraintInvalid, match="too many"):
        Grammars(TOKENIZER, SIZE, (2,)).matcher(Constraint("regex", "[a-z]{3,9}[0-9]{500}"))


def test_what_takes_too_long_to_compile_is_given_up(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    ending = threading.Event()
    monkeypatch.setattr(Grammars, "_compile", lambda *_: ending.wait())
    monkeypatch.setattr("edgeship.engine.grammar._COMPILE_S", 0.01)
    with pytest.raises(ConstraintInvalid, match="takes longer"):
        grammars.matcher(Constraint("regex", "given up"))
    ending.set()


class Panic(BaseException):
    """As a library written in Rust raises it."""


def test_a_panic_is_the_constraints_fault(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def is_stopped(self) -> bool:
            return False

        def __getattr__(self, name: str) -> Any:
            raise Panic("it broke")

    matcher = grammars.matcher(Constraint("regex", "ab"))
    monkeypatch.setattr(matcher, "_layouts", [Broken()])
    for ask in (matcher.allowed, matcher.forced, lambda: matcher.push(97)):
        with pytest.raises(ConstraintInvalid, match="it broke") as failure:
            ask()
        assert failure.value.hint
        assert isinstance(failure.value.__cause__, Panic)


@pytest.mark.slow
def test_tokenizers_of_very_many_added_tokens_are_refused(tmp_path: Path) -> None:
    """The library would take 40 s, in which no thread runs."""
    source = json.loads(TOKENIZER.read_text(encoding="utf-8"))
    source["added_tokens"] += [
        {"id": SIZE + number, "content": f"<{number}>", "special": True} | _PLAIN for number in range(100_000)
    ]
    checkpoints.write_json(tmp_path / "tokenizer.json", source)
    with pytest.raises(EngineFailed, match="added tokens, and 32768"):
        Grammars(tmp_path / "tokenizer.json", SIZE + 100_000, (2,)).matcher(ANY)


@pytest.mark.slow
def test_the_library_is_silent(grammars: Grammars, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConstraintInvalid):
        grammars.matcher(Constraint("json_schema", '{"type": "string", "pattern": "["}'))
    with pytest.raises(EngineFailed):
        grammars.matcher(PAIR).push(END)
    lenient = schema({"a": {"type": "string"}}, oneOf=[{"minProperties": 1}, {"maxProperties": 1}])
    pushed(grammars.matcher(replace(lenient, lenient=True)), '{"a": "x"}')
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["no json", "{}", '{"model": {"vocab": {"a": 0}}}', '{"model": {"vocab": {"a": 7}}}'])
def test_tokenizers_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    for failing in (path, path):
        with pytest.raises(EngineFailed, match="with this tokenizer") as failure:
            Grammars(failing, 8, (0,)).matcher(ANY)
        assert failure.value.where == str(path)
        path.write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_ids_with_gaps_are_refused(tmp_path: Path) -> None:
    """The library would take the last ones for special tokens and never allow them."""
    source = json.loads(TOKENIZER.read_text(encoding="utf-8"))
    vocab = source["model"]["vocab"]
    vocab[max(vocab, key=vocab.__getitem__)] += 10
    checkpoints.write_json(tmp_path / "tokenizer.json", source)
    with pytest.raises(EngineFailed, match="gaps"):
        Grammars(tmp_path / "tokenizer.json", 1100, (2,)).matcher(ANY)


def test_a_vocabulary_that_could_not_be_read_once_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise Panic("it broke")

    grammars = Grammars(TOKENIZER, SIZE, (2,))
    monkeypatch.setattr("edgeship.engine.grammar.vocabulary", fail)
    with pytest.raises(EngineFailed, match="it broke"):
        grammars.matcher(ANY)
    monkeypatch.undo()
    assert grammars.matcher(ANY).allowed().sum() > 0


def test_a_package_that_is_removed_while_its_engine_runs_still_holds_answers(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(TOKENIZER.read_bytes())
    grammars = Grammars(path, SIZE, (2,))
    path.unlink()
    assert grammars.matcher(ANY).allowed().sum() > 0


def test_the_library_is_asked_for_with_the_first_constraint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    grammars = Grammars(Path("nowhere"), 8, (0,))
    with pytest.raises(DependencyMissing, match="llguidance"):
        grammars.matcher(ANY)


# --- many requests ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_constraint_is_compiled_once_and_its_matchers_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    grammars = Grammars(BYTES, len(BYTES), (END,), special_ids=(END, TURN))
    compiled: list[Constraint] = []
    original = Grammars._compile

    def compile_(self: Grammars, constraint: Constraint) -> list[Any]:
        compiled.append(constraint)
        return original(self, constraint)

    monkeypatch.setattr(Grammars, "_compile", compile_)
    pushed(grammars.matcher(PAIR), '{"a": "')
    assert np.flatnonzero(grammars.matcher(PAIR).allowed()).tolist() == [ord("{")]
    assert compiled == [PAIR]
    for number in range(40):
        grammars.matcher(Constraint("regex", "a" * (number + 1)))
        grammars.matcher(ANY)
    assert compiled.count(ANY) == 1
    assert len(compiled) == 42
    grammars.matcher(PAIR)
    assert compiled.count(PAIR) == 2


@pytest.mark.slow
def test_threads_may_ask_at_the_same_time() -> None:
    grammars = Grammars(TOKENIZER, SIZE, (2,))

    def ask(number: int) -> int:
        matcher = grammars.matcher(Constraint("regex", "x" * (number % 4 + 1)) if number % 2 else TRIAGE)
        steps = 0
        while not matcher.complete:
            matcher.push(int(np.flatnonzero(matcher.allowed())[0]))
            steps += 1
            if steps == 8:
                break
        return steps

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(64)))


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("json_schema", '{"type": '),
        Constraint("json_schema", '{"type": "objec"}'),
        Constraint("json_schema", '{"$ref": "#/nowhere"}'),
        Constraint("regex", "(a"),
        Constraint("lark", 'start: "a'),
        Constraint("lark", "start: nowhere"),
    ],
)
def test_what_is_broken_is_known_without_a_model(constraint: Constraint) -> None:
    with pytest.raises(ConstraintInvalid):
        require_usable(constraint)


@pytest.mark.parametrize(
    "constraint", [TRIAGE, ANY, Constraint("regex", "a|b"), Constraint("lark", "start: <|im_end|>")]
)
def test_what_a_model_may_be_held_to_is_usable(constraint: Constraint) -> None:
    require_usable(constraint)
