"""Rendering, the prompt parts derived from a template, and the comparison of token ids."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.errors import TemplateInvalid, TemplateMismatch
from edgeship.package.fidelity import (
    CONVERSATIONS,
    Sample,
    check_fidelity,
    compare_tokens,
    conversations_for,
    require_fidelity,
)
from edgeship.package.prompt_parts import NoParts, PromptParts, assemble, derive_parts
from edgeship.package.template import HINT, Message, asks_for, find, read, render, takes_instructions
from tests import chat_templates
from tests.chat_templates import FAMILIES, Family
from tests.checkpoints import CHATML, write_json

HELLO = [{"role": "user", "content": "Hello"}]


def parts_of(template: str, special_tokens: Mapping[str, str]) -> PromptParts:
    parts = derive_parts(template, special_tokens)
    assert isinstance(parts, PromptParts)
    return parts


CHATML_PARTS = parts_of(CHATML, {})
families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())


def characters(family: Family, messages: Sequence[Message]) -> list[int]:
    """A reader whose tokens are characters."""
    return [ord(letter) for letter in render(family.template, messages, special_tokens=family.tokens)]


# --- finding -----------------------------------------------------------------------------------------

NAMED = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]


@pytest.mark.parametrize(
    ("stated", "found"),
    [("in the config", "in the config"), (NAMED, "d"), ("", None), (" \n", None), (None, None)],
)
def test_the_template_of_a_folder(tmp_path: Path, stated: object, found: str | None) -> None:
    assert find(tmp_path, {"chat_template": stated}) == found
    (tmp_path / "chat_template.jinja").write_text("beside é", encoding="utf-8")
    assert find(tmp_path, {"chat_template": stated}) == "beside é"


def test_no_template_or_one_that_onnxruntime_genai_does_not_read(tmp_path: Path) -> None:
    assert find(tmp_path, {}) is None
    assert find(tmp_path, {"chat_template": NAMED}, named=False) is None
    assert find(tmp_path, {"chat_template": NAMED[:1]}) == "t"


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), (b"\xff", "cannot be read"), (b" \n", "is empty")]
)
def test_a_template_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "mine.jinja"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TemplateInvalid, match=message) as caught:
        read(path)
    assert (caught.value.where, caught.value.hint) == (str(path), HINT)


# --- rendering ---------------------------------------------------------------------------------------


def test_the_prompt_ends_where_the_answer_begins() -> None:
    asked = "<|im_start|>user\nHello<|im_end|>\n"
    assert render(CHATML, HELLO, special_tokens={}) == asked + "<|im_start|>assistant\n"
    assert render(CHATML, HELLO, special_tokens={}, add_generation_prompt=False) == asked


def test_variables_and_special_tokens_reach_the_template() -> None:
    template = "{{ bos_token }}{{ enable_thinking }}{{ tools is none }}{{ documents is none }}"
    text = render(template, HELLO, special_tokens={"bos_token": "<s>"}, variables={"enable_thinking": False})
    assert text == "<s>FalseTrueTrue"
    assert render(template, HELLO, special_tokens={"bos_token": "<s>"}, variables={"bos_token": ""}) == "TrueTrue"


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def test_tools_and_the_arguments_of_calls_reach_the_template() -> None:
    template = "{{ tools | tojson }} {{ messages[1].tool_calls[0].function.arguments.city }}"
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Porto"}'}}
    messages: list[Message] = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]
    text = render(template, messages, special_tokens={}, tools=[TOOL])
    assert text == '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}] Porto'
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Porto"}'}


PARTS = [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]


@pytest.mark.parametrize("template", chat_templates.READ_PARTS.values(), ids=chat_templates.READ_PARTS.keys())
def test_parts_go_as_they_are_to_templates_that_read_them(template: str) -> None:
    assert "onetwo" in render(template, PARTS, special_tokens={"bos_token": "<s>"})


@families
def test_parts_are_one_text_where_a_template_reads_texts(family: Family) -> None:
    joined = [{"role": "user", "content": "one\ntwo"}]
    assert characters(family, PARTS) == characters(family, joined)


def test_parts_are_one_text_where_a_template_would_leave_them_out() -> None:
    template = "{% for m in messages %}{{ m.content if m.content is string else '' }}{% endfor %}"
    assert render(template, PARTS, special_tokens={}) == "one\ntwo"


@pytest.mark.slow
@pytest.mark.parametrize("template", chat_templates.READ_PARTS.values(), ids=chat_templates.READ_PARTS.keys())
def test_parts_and_tools_are_rendered_as_by_transformers(template: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    theirs, _ = render_jinja_template(
        conversations=[PARTS], chat_template=template, tools=[TOOL], add_generation_prompt=True, bos_token="<s>"
    )
    assert render(template, PARTS, special_tokens={"bos_token": "<s>"}, tools=[TOOL]) == theirs[0]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% if true %}\n  a\n{% endif %}\n", "  a\n"),  # trim_blocks and lstrip_blocks
        ("{{ {'b': 'é<&>', 'a': 1} | tojson }}", '{"b": "é<&>", "a": 1}'),
        ("{{ {'b': [1]} | tojson(indent=1) }}", '{\n "b": [\n  1\n ]\n}'),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("a{% generation %}{{ messages[0].content }}{% endgeneration %}b", "aHellob"),
        ("{{ strftime_now('%%') }}", "%"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "1"),
    ],
)
def test_jinja_is_set_up_as_transformers_sets_it_up(template: str, text: str) -> None:
    assert render(template, HELLO, special_tokens={}) == text


def test_a_syntax_error_names_its_line() -> None:
    with pytest.raises(TemplateInvalid, match="line 2"):
        render("ok\n{% if %}", HELLO, special_tokens={})


def test_a_failure_names_its_line_and_cause() -> None:
    with pytest.raises(TemplateInvalid, match=r"line 2.*absent"):
        render("ok\n{{ messages[0].absent.deeper }}", HELLO, special_tokens={})


def test_what_the_template_refuses_is_said_in_its_words() -> None:
    with pytest.raises(TemplateInvalid, match="only users may speak"):
        render("{{ raise_exception('only users may speak') }}", HELLO, special_tokens={})


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in range(10**9) %}{% endfor %}",
    ],
)
def test_a_template_cannot_leave_the_sandbox(template: str) -> None:
    with pytest.raises(TemplateInvalid):
        render(template, HELLO, special_tokens={})


def test_the_messages_given_are_not_changed() -> None:
    messages = [{"role": "user", "content": "x"}]
    with pytest.raises(TemplateInvalid):
        render("{{ messages[0].update({'content': 'y'}) }}", messages, special_tokens={})
    assert messages == [{"role": "user", "content": "x"}]


@pytest.mark.slow
@families
@pytest.mark.parametrize("ask", [True, False])
def test_rendering_equals_that_of_transformers(family: Family, ask: bool) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    for conversation in conversations_for(family.template, family.tokens):
        messages = [dict(message) for message in conversation.messages]
        theirs, _ = render_jinja_template(
            conversations=[messages], chat_template=family.template, add_generation_prompt=ask, **family.tokens
        )
        ours = render(family.template, messages, special_tokens=family.tokens, add_generation_prompt=ask)
        assert ours == theirs[0], conversation.name


# --- prompt parts ------------------------------------------------------------------------------------


@families
def test_parts_are_those_a_person_would_write_down(family: Family) -> None:
    assert derive_parts(family.template, family.tokens) == PromptParts(
        family.system, family.user, family.assistant, family.prompt, family.opening
    )


def test_the_newline_that_the_tutorial_forgot_is_there() -> None:
    assert parts_of(CHATML, {}).prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")


@families
def test_parts_give_the_text_of_every_conversation(family: Family) -> None:
    parts = parts_of(family.template, family.tokens)
    for conversation in conversations_for(family.template, family.tokens):
        if conversation.edge_spaces or (conversation.has_system and parts.system is None):
            continue
        text = render(family.template, conversation.messages, special_tokens=family.tokens)
        assert assemble(parts, conversation.messages) == text, conversation.name


@given(st.lists(st.text(), min_size=1, max_size=5).filter(lambda texts: len(texts) % 2 == 1), st.none() | st.text())
def test_parts_of_chatml_give_any_conversation(texts: list[str], system: str | None) -> None:
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    messages = ([{"role": "system", "content": system}] if system is not None else []) + turns
    assert assemble(CHATML_PARTS, messages) == render(CHATML, messages, special_tokens={})


def test_an_assistant_part_may_differ_from_the_opening_of_an_answer() -> None:
    thinking = CHATML.replace("assistant\\n' }}{% endif", "assistant\\n<think>\\n' }}{% endif")
    parts = parts_of(thinking, {})
    assert parts.assistant == "<|im_start|>assistant\n{Content}<|im_end|>\n"
    assert parts.prompt == "<|im_start|>user\n{Content}<|im_end|>\n<|im_start|>assistant\n<think>\n"


@pytest.mark.parametrize(
    "template",
    [
        "### Instruction:\n{{ messages[-1].content }}\n\n### Response:\n",  # forgets earlier turns, as Alpaca's
        "{% for m in messages | reverse %}<{{ m.role }}>{{ m.content }}{% endfor %}",
        "{% for m in messages %}<{{ m.role }}{{ loop.index }}>{{ m.content }}{% endfor %}",
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m.content }}{% endfor %}",
        "<{{ messages | length }}>{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m | tojson }}{% endfor %}",
        "{% for m in messages %}<{{ m.role }}>{{ m.content | e }}{% endfor %}",
    ],
)
def test_turns_that_do_not_stand_in_line_have_no_parts(template: str) -> None:
    parts = derive_parts(template, {})
    assert isinstance(parts, NoParts)
    assert "it rendered" in parts.why


def test_a_template_that_leaves_out_what_was_said_is_no_template() -> None:
    with pytest.raises(TemplateInvalid, match="leaves out what the user says; it rendered '1'"):
        derive_parts("{{ messages | length }}", {})


@pytest.mark.parametrize(
    ("parts", "messages"),
    [
        (PromptParts(None, "u{Content}", "a{Content}", "p{Content}"), [{"role": "system", "content": "s"}, *HELLO]),
        (PromptParts("s{Content}", "u{Content}", "a{Content}", "p{Content}"), []),
        (
            PromptParts("s{Content}", "u{Content}", "a{Content}", "p{Content}"),
            [*HELLO, {"role": "assistant", "content": ""}],
        ),
    ],
)
def test_parts_refuse_what_they_cannot_express(parts: PromptParts, messages: list[Message]) -> None:
    with pytest.raises(TemplateInvalid, match=r"system|end with a user turn"):
        assemble(parts, messages)


# --- fidelity ----------------------------------------------------------------------------------------


def test_conversations_have_names_of_their_own_and_end_with_a_question() -> None:
    assert len({conversation.name for conversation in CONVERSATIONS}) == len(CONVERSATIONS)
    assert all(conversation.messages[-1]["role"] == "user" for conversation in CONVERSATIONS)


def test_conversations_with_a_system_turn_are_left_out_where_it_is_refused() -> None:
    gemma, chatml = FAMILIES["gemma"], FAMILIES["qwen2.5"]
    assert not any(conversation.has_system for conversation in conversations_for(gemma.template, gemma.tokens))
    assert conversations_for(chatml.template, chatml.tokens) == CONVERSATIONS


ALPACA = (
    "{% for m in messages %}{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n"
    "{% elif m.role == 'assistant' %}### Response:\n{{ m.content }}\n\n{% endif %}{% endfor %}### Response:\n"
)


def test_conversations_with_a_system_turn_are_left_out_where_no_prompt_would_show_it() -> None:
    assert not any(conversation.has_system for conversation in conversations_for(ALPACA, {}))


@pytest.mark.parametrize(
    ("template", "taken"),
    [
        (ALPACA, False),
        ("{{ messages[-1].content }}", False),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", True),
        ("{% for m in messages %}{{ m | tojson }}{% endfor %}", True),
    ],
)
def test_a_system_role_is_what_changes_the_prompt(template: str, taken: bool) -> None:
    assert takes_instructions(template, ()) is taken


def test_a_template_that_refuses_everything_is_no_reason_to_test_nothing() -> None:
    with pytest.raises(TemplateInvalid, match="never"):
        conversations_for("{{ raise_exception('never') }}", {})


@families
def test_readers_that_agree_have_no_mismatch(family: Family) -> None:
    """Also where the parts have no system turn; that the template trims and they do not is known and said."""
    parts = parts_of(family.template, family.tokens)
    found = check_fidelity(
        {
            "template": lambda messages: characters(family, messages),
            "parts": lambda messages: [ord(letter) for letter in assemble(parts, messages)],
        },
        conversations_for(family.template, family.tokens),
    )
    assert all(mismatch.conversation == "spaces at the edges" for mismatch in found)
    assert all(mismatch.excuse == "parts does not trim texts as the template does" for mismatch in found)
    require_fidelity(found)


def test_a_wrong_part_is_found_in_every_conversation_and_shown() -> None:
    family = FAMILIES["qwen3"]
    parts = parts_of(family.template, family.tokens)
    tutorial = PromptParts(parts.system, parts.user, parts.assistant, parts.prompt.rstrip("\n"))
    found = check_fidelity(
        {
            "template": lambda messages: characters(family, messages),
            "parts": lambda messages: [ord(letter) for letter in assemble(tutorial, messages)],
        },
        decode=lambda ids: "".join(map(chr, ids)),
    )
    assert {mismatch.conversation for mismatch in found} == {conversation.name for conversation in CONVERSATIONS}
    assert (found[0].expected_text, found[0].found_text) == ("tant\n", "tant")
    with pytest.raises(TemplateMismatch, match=r"'one question', token \d+: template has .*parts has .*'tant'"):
        require_fidelity(found)


def test_a_reader_that_trims_where_the_template_does_not_is_found() -> None:
    def trimming(messages: Sequence[Message]) -> list[int]:
        return [ord(letter) for letter in messages[-1]["content"].strip()]

    def exact(messages: Sequence[Message]) -> list[int]:
        return [ord(letter) for letter in messages[-1]["content"]]

    spaces = [conversation for conversation in CONVERSATIONS if conversation.edge_spaces]
    (fault,) = check_fidelity({"exact": exact, "trimming": trimming}, spaces)
    assert fault.excuse is None
    with pytest.raises(TemplateMismatch):
        require_fidelity([fault])
    (known,) = check_fidelity({"trimming": trimming, "exact": exact}, spaces)
    assert known.excuse == "exact does not trim texts as the template does"


def test_a_reader_that_does_not_compose_accents_is_known_and_one_that_does_too_much_is_not() -> None:
    def composing(messages: Sequence[Message]) -> list[int]:
        return [ord(letter) for letter in unicodedata.normalize("NFC", messages[-1]["content"])]

    def exact(messages: Sequence[Message]) -> list[int]:
        return [ord(letter) for letter in messages[-1]["content"]]

    (known,) = check_fidelity({"composing": composing, "exact": exact})
    assert known.excuse == "exact does not compose accents (NFC) as the tokenizer does"
    (fault,) = check_fidelity({"exact": exact, "composing": composing})
    assert (fault.conversation, fault.excuse) == ("decomposed accents", None)


def test_a_refusal_of_a_conversation_without_a_system_turn_is_an_error() -> None:
    def refuse(messages: Sequence[Message]) -> list[int]:
        raise TemplateInvalid(f"no {messages[0]['role']}")

    with pytest.raises(TemplateInvalid, match="no user"):
        check_fidelity({"a": lambda _: [1], "b": refuse}, [Sample("one", tuple(HELLO))])


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_the_first_difference_is_the_first(first: list[int], second: list[int]) -> None:
    found = compare_tokens("c", ("a", first), ("b", second))
    if first == second:
        assert found is None
        return
    assert found is not None
    assert first[: found.index] == second[: found.index]
    assert first[found.index : found.index + 1] != second[found.index : found.index + 1]
    assert set(found.expected) <= set(first)


def test_nothing_different_raises_nothing() -> None:
    require_fidelity([])


def test_token_ids_of_arrays_compare_as_numbers() -> None:
    import numpy as np

    ids: Any = np.array([1, 2], np.int32)
    assert compare_tokens("c", ("a", [1, 2]), ("b", ids)) is None


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (5, "has chat_template 5, which is not a text"),
        (["a"], "has chat_template[0] 'a', which is not an object"),
        ([{"name": ["a"], "template": "t"}], "has chat_template[0].name ['a'], which is not a text"),
        ([{"name": "a", "template": 5}], "has chat_template[0].template 5, which is not a text"),
        ({"default": {}}, "has chat_template.default {}, which is not a text"),
    ],
)
def test_a_template_that_is_no_text_is_told_with_its_field(tmp_path: Path, stated: Any, said: str) -> None:
    with pytest.raises(TemplateInvalid, match=re.escape(f"tokenizer_config.json {said}")):
        find(tmp_path, {"chat_template": stated})
    write_json(tmp_path / "chat_template.json", {"chat_template": stated})
    with pytest.raises(TemplateInvalid, match=re.escape(f"chat_template.json {said}")):
        find(tmp_path, {})


def test_what_a_template_asks_for() -> None:
    assert asks_for(chat_templates.QWEN25) == {"messages", "tools", "add_generation_prompt"}
    # What it sets itself, an attribute of that name, and what every template has, are not asked for.
    assert asks_for("{% set a = b %}{{ a }}{{ c.d }}{% for e in range(2) %}{{ e }}{% endfor %}") == {"b", "c"}
    assert "enable_thinking" in asks_for(chat_templates.QWEN3)
    with pytest.raises(TemplateInvalid):
        asks_for("{% if %}")
