"""Calls as models write them, read in every format."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.package.call_syntax import meant, read
from edgeship.package.tool_formats import FORMATS, ToolFormat

BY_NAME = {form.name: form for form in FORMATS}
EVERYTHING: dict[str, Any] = {
    "text": "a 'quoted' \"one\" \\ \u00fc <b>\n[](){},:=",
    "empty": "",
    "number": -1.5e3,
    "yes": True,
    "none": None,
    "list": [1, "two", [], {"deep": [False, None]}],
    "object": {"a key": "x", "b": {}},
}


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@pytest.mark.parametrize("arguments", [{}, EVERYTHING], ids=["nothing", "everything"])
def test_what_is_written_is_read(form: ToolFormat, arguments: dict[str, Any]) -> None:
    before = "" if form.bare else "text "
    assert read(form, before + form.written([("a.name-1", arguments)])) == ("a.name-1", arguments)


@pytest.mark.parametrize(
    ("form", "text", "arguments"),
    [
        (
            "pythonic",
            r"""[f(a='it\'s "so"', b = "x\ty\x41\u00fc\/\q")]""",
            {"a": 'it\'s "so"', "b": "x\ty\x41\u00fc/\\q"},
        ),
        (
            "pythonic",
            "[ f ( a = [ True , 'x' , null ] , b = {'k': false, \"l\": -0.5} ) ]",
            {"a": [True, "x", None], "b": {"k": False, "l": -0.5}},
        ),
        ("pythonic", '[f(a="\\\n")]', {"a": ""}),
        ("lfm2", '<|tool_call_start|>[f(a="]<|tool_call_end|>")]<|tool_call_end|>', {"a": "]<|tool_call_end|>"}),
        ("olmo3", "<function_calls>f(a=1)</function_calls>", {"a": 1}),
        (
            "gemma4",
            '<|tool_call>call:f{ a: <|"|>x,"}<|"|> , b:{<|"|>c d<|"|>:[<|"|><|"|>,3]} }<tool_call|>',
            {"a": 'x,"}', "b": {"c d": ["", 3]}},
        ),
        ("functiongemma", "<start_function_call>call:f{<escape>a:b<escape>:none}<end_function_call>", None),
        ("functiongemma", "<start_function_call>call:f{<escape>a:b<escape>:null}<end_function_call>", {"a:b": None}),
        (
            "qwen-xml",
            "<tool_call>\n<function=f>\n<parameter=a>\n\n x\n\n</parameter>\n</function>\n</tool_call>",
            {"a": "\n x\n"},
        ),
        ("qwen-xml", "<tool_call><function=f><parameter=a>\nTrue\n</parameter></function></tool_call>", {"a": True}),
        (
            "minimax",
            '<minimax:tool_call><invoke name="f"><parameter name="a">{"b": "</parameter>"}</parameter></invoke>'
            "</minimax:tool_call>",
            {"a": {"b": "</parameter>"}},
        ),
        ("glm", "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>NaN</arg_value>\n</tool_call>", {"a": "NaN"}),
    ],
)
def test_what_models_write_besides(form: str, text: str, arguments: dict[str, Any] | None) -> None:
    found = read(BY_NAME[form], text)
    assert (found and found[1]) == arguments


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("pythonic", "[1, 2]"),
        ("pythonic", "[f(1)]"),
        ("pythonic", "[f(a=b)]"),
        ("pythonic", "[f(a=01)]"),
        ("pythonic", '[f(a="\\xzz")]'),
        ("pythonic", "[f(a=" + "[" * 2000),
        ("pythonic", "[f(), g()]"),
        ("gemma4", "<|tool_call>f{a:1}<tool_call|>"),
        ("gemma4", "<|tool_call>call:f{a:x}<tool_call|>"),
        ("qwen-xml", "<tool_call>\n<function=f>\n<parameter=a>\nx\n</function>\n</tool_call>"),
        ("json", '{"name": "f", "arguments": {"a": NaN}}'),
        ("json", '{"name": "f", "name": "g", "arguments": {}}'),
        ("json", '{"name": "f"}'),
    ],
)
def test_what_is_no_call(form: str, text: str) -> None:
    assert read(BY_NAME[form], text) is None


@pytest.mark.parametrize(
    ("text", "kinds", "value"),
    [
        ("5", ["string"], '"5"'),
        ("5", ["string", "null"], '"5"'),
        (" 5\n", ["string", "integer"], "5"),
        ("5.0", ["integer"], "5.0"),
        ("9" * 400, ["integer"], "9" * 400),
        ("5.5", ["string", "integer"], '"5.5"'),
        ("None", ["string", "null"], "null"),
        ("None", ["string", "boolean"], '"None"'),
        ("True", ["boolean"], "true"),
        ("{}", ["string", "array"], '"{}"'),
        ('"x"', ["string", "number"], r'"\"x\""'),
        ("\u00a05", ["string", "integer"], '"\u00a05"'),
    ],
)
def test_what_stands_without_quotes_is_what_its_schema_says(text: str, kinds: list[str], value: str) -> None:
    assert meant(text, kinds) == value


def test_what_its_schema_does_not_allow_is_none_of_it() -> None:
    with pytest.raises(ValueError, match="no call"):
        meant("x", ["integer"])
