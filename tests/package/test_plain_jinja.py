"""Chat templates in the words of onnxruntime-genai's renderer: to Jinja they are the same."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.errors import UsageError
from edgeship.package.fidelity import conversations_for, of_template
from edgeship.package.plain_jinja import rewrite, say, texts, with_variables
from edgeship.package.template import Message, render
from tests import chat_templates
from tests.chat_templates import FAMILIES

TEMPLATES = {name: (family.template, family.tokens) for name, family in FAMILIES.items()}
TEMPLATES |= {name: (template, {"bos_token": "<s>"}) for name, template in chat_templates.READ_PARTS.items()}
TEMPLATES |= {name: (template, dict[str, str]()) for name, template in chat_templates.OTHERWISE.items()}
HELLO: list[Message] = [{"role": "user", "content": "a b/a"}]


@pytest.mark.parametrize("name", TEMPLATES)
def test_whole_templates_mean_the_same(name: str) -> None:
    template, tokens = TEMPLATES[name]
    written = rewrite(template)
    assert written is not None
    for sample in (*conversations_for(template, tokens), *of_template(template, tokens)):
        for ask in (True, False):
            same = [
                render(text, sample.messages, special_tokens=tokens, add_generation_prompt=ask)
                for text in (template, written)
            ]
            assert same[0] == same[1], sample.name


@pytest.mark.parametrize(
    "template",
    [
        "a\n{% if true %}\n  b\n  {% endif %}\n c {#- d -#}\n e",
        "{{ messages[0].content.replace('a', 'x').replace('b', '') }}",
        "{{ messages[0].content | replace('a', \"'\") | upper }}",
        "{{ 'a' in messages[0].content }}{{ 'role' in messages[0] }}{{ 'c' not in messages[0].content }}",
        "{{ 1 in [1, 2] }}{{ (1, none, true, 2.5, -3, +4) }}{{ {'a': 1}['a'] }}",
        "{{ messages | first }}{{ 'xyz' | first }}{{ 'ABC'.lower() }}{{ 'x'.upper() ~ 1 ~ none }}",
        "{% for k, v in {'a': 1, 'b': 2}.items() if v > 1 %}{{ k }}{{ loop.index0 }}{% else %}none{% endfor %}",
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        "{% macro f(x, y='z') %}[{{ x }}{{ y }}]{% endmacro %}{{ f(1) }}{{ f(1, y=2) }}",
        "{% set ns = namespace(n=1) %}{% set ns.n = ns.n + 7 // 2 * 3 % 4 - 1 / 2 %}{{ ns.n }}",
        "{{ 'ab'[1:] }}{{ 'ab'[::-1] }}{{ messages[-1:] }}",
        "{% set x %}q{{ 1 }}{% endset %}{{ x }}{% set a, b = 1, 2 %}{{ a }}{{ b }}{{ 'y' if a is not defined }}",
        "a{% generation %}{{ messages[0].content }}{% endgeneration %}b",
        r"""{{ 'quotes " and \\ and \n' }}{% raw %}{{ x }}{% endraw %}""",
        "{{ tools is none }}{{ documents is none }}{{ not (true and false) or 1 < 2 <= 2 if false else 'é' }}",
        "{{ messages | map(attribute='role') | join(', ') }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list }}",
    ],
)
def test_each_kind_of_node_means_the_same(template: str) -> None:
    written = rewrite(template)
    if written is None:
        assert "<= 2" in template  # comparisons in a row
        return
    assert render(written, HELLO, special_tokens={}) == render(template, HELLO, special_tokens={})


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages recursive %}{{ m.content }}{% endfor %}",
        "{% filter upper %}x{% endfilter %}",
        "{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}",
        "{{ 2 ** 3 }}",
        "{{ dict(**messages[0]) }}",
        "{{ 'a' in (messages[0].content | trim) }}",
    ],
)
def test_what_there_are_no_words_for(template: str) -> None:
    assert rewrite(template) is None


def test_a_rewritten_template_grows_by_what_it_holds() -> None:
    """A search in a search in a search would stand there three times for each."""
    nested = "'a' in " * 30
    assert rewrite("{{ " + nested.replace("in '", "in ('") + "messages" + ")" * 29 + " }}") is None


def test_the_texts_in_a_template() -> None:
    assert texts("a {{ 'b' }}{% if 'c' in x or x == 'b' %}{{ ' ' }}{% endif %}") == ("b", "c")
    assert render(say('"\n\\'), HELLO, special_tokens={}) == '"\n\\'


# --- variables ---------------------------------------------------------------------------------------

VALUES: dict[str, Any] = {"yes": True, "no": False, "nothing": None, "number": -2, "part": 0.5, "list": [1, ["x"]]}
VALUES |= {
    "text": 'a "b"\\\n\r\té😀',
    "list": [1, ["x"]],
}


@pytest.mark.parametrize("template", ["", "\n", "  "])
def test_variables_are_part_of_a_template_that_says_nothing_else(template: str) -> None:
    shown = "|".join(f"{{{{ {name} }}}}" for name in VALUES)
    written = with_variables(f"{template}{shown}\n{{% if yes %}}\n x{{% endif %}}", VALUES)
    expected = render(f"{template}{shown}\n{{% if yes %}}\n x{{% endif %}}", HELLO, special_tokens={}, variables=VALUES)
    assert render(written, HELLO, special_tokens={}) == expected
    assert (
        render(written, HELLO, special_tokens={}, variables=dict.fromkeys(VALUES, 1)).strip()
        == "|".join("1" * 7) + "\n x"
    )


def test_an_object_is_a_variable_too() -> None:
    assert render(with_variables("{{ who.name }}", {"who": {"name": "é"}}), HELLO, special_tokens={}) == "é"
    assert with_variables("{{ x }}", {}) == "{{ x }}"


@pytest.mark.parametrize(
    "variables", [{"messages": 1}, {"a b": 1}, {"": 1}, {"x": float("nan")}, {"x": {1, 2}}, {"x": {1: 2}}]
)
def test_what_cannot_be_a_variable(variables: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        with_variables("{{ x }}", variables)
