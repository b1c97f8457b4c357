"""What a template of a stranger can cost, and that others mean what they mean in Jinja."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest

from edgeship.errors import TemplateInvalid
from edgeship.package import sandbox
from edgeship.package.template import render

HUNDRED = "{% for i in range(100000) %}"
GROWING = "{% set ns = namespace(x='a', l=[1], n=7) %}{% for i in range(60) %}"
BIG = "{% set big = 'a' * 100000 %}"
TOO_MUCH_TEXT = {
    "product": "{{ 'a' * 10**10 }}",
    "product of a list": "{{ 10**9 * [1] }}",
    "width": "{{ 'a'.center(10**10) }}",
    "width by a filter": "{{ 'a'|center(10**10) }}",
    "width of each": "{{ ['a']|map('center', 10**10)|list }}",
    "width of a block": "{% filter center(10**10) %}x{% endfilter %}",
    "width of a default": "{{ x|default('a'.ljust(10**10)) }}",
    "zeros": "{{ 'a'.zfill(10**10) }}",
    "tabs": "{{ '\t'.expandtabs(10**10) }}",
    "bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent with a star": "{{ '%*d' % (10**9, 1) }}",
    "percent by a filter": "{{ '%1000000000d'|format(1) }}",
    "many percents": BIG + "{{ ('%(a)s' * 10000) % {'a': big} }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "many formats": BIG + "{{ ('{0}' * 10000).format(big) }}",
    "many named formats": BIG + "{{ ('{a}' * 10000).format_map({'a': big}) }}",
    "replace": BIG + "{{ big.replace('a', big) }}",
    "replace by a filter": BIG + "{{ big|replace('a', big) }}",
    "translate": BIG + "{{ big.translate({97: big}) }}",
    "join": BIG + "{{ big.join(['x'] * 100000) }}",
    "join by a filter": BIG + "{{ (['x'] * 100000)|join(big) }}",
    "indent": "{{ 'a'|indent(10**10, true) }}",
    "indent of JSON": "{{ [1]|tojson(indent=10**9) }}",
    "indent of deep JSON": "{% set ns = namespace(l=[1] * 50000) %}{% for i in range(300) %}{% set ns.l = [ns.l] %}"
    "{% endfor %}{{ ns.l|tojson(indent=9) }}",
    "rounding": "{{ 1.5|round(10**9, 'ceil') }}",
    "doubling": GROWING + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling by ~": GROWING + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling by a block": GROWING + "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "many variables": BIG + "".join(f"{{% set a{i} = big * 100 ~ '{i}' %}}" for i in range(50)),
    "many slices": BIG + GROWING + HUNDRED + "{% set ns.l = ns.l + [big[1:]] %}{% endfor %}{% endfor %}",
    "a macro's caller": BIG
    + "{% macro m() %}"
    + HUNDRED
    + "{{ caller() }}{% endfor %}{% endmacro %}{% call m() %}{{ big }}{% endcall %}",
    "a cycler": BIG + "{% set c = cycler(big) %}" + HUNDRED + "{{ c.next() }}{% endfor %}",
}
TOO_LONG = {
    "loops": HUNDRED * 3 + "{% endfor %}" * 3,
    "loops that show": HUNDRED * 2 + "x" + "{% endfor %}" * 2,
    "loops that show nothing": HUNDRED * 2 + "{{ nope }}" + "{% endfor %}" * 2,
    "loops over what is chosen": HUNDRED + "{% for j in range(99999)|select('odd') %}{% endfor %}{% endfor %}",
    "searches": "{% set x = range(99999)|list %}" + HUNDRED + "{% if -1 in x %}{% endif %}{% endfor %}",
    "comparisons": "{% set x, y = range(99999)|list, range(99999)|list %}"
    + HUNDRED
    + "{% if x == y %}{% endif %}{% endfor %}",
    "sorting": HUNDRED + "{% set x = range(99999)|sort %}{% endfor %}",
    "doubling a list": GROWING + "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
    "doubling a key": GROWING + "{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ {ns.l: 1} }}",
    "doubling a dict": GROWING + "{% set ns.l = dict(a=ns.l, b=ns.l) %}{% endfor %}{{ ns.l|tojson }}",
    "doubling by a filter": GROWING + "{% set ns.l = [1, 2]|map(attribute='q', default=ns.l)|list %}{% endfor %}",
    "doubling arguments": "{% macro m(n) %}{% if n %}{{ m(n - 1, varargs, varargs) }}{% else %}{{ varargs }}"
    "{% endif %}{% endmacro %}{{ m(60, 1) }}",
    "macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
}
NEVER = {
    "a namespace in a list": ("{% set a = namespace() %}{{ [a] }}", "namespace"),
    "namespaces that show each other": (
        "{% set a, b = namespace(), namespace() %}{% set a.x = b %}{{ a.x }}",
        "namespace",
    ),
    "a format in a format": ("{{ '{:{}}'.format(1, '1000000000') }}", "format within"),
    "a power": ("{{ 10**10**10**10**10 }}", "digits"),
    "squares": (GROWING + "{% set ns.n = ns.n * ns.n %}{% endfor %}", "digits"),
    "a long number": ("{{ " + "9" * 100_000 + " }}", "digits"),
    "made text": ("{{ lipsum(n=10**9) }}", "lipsum"),
    "a filter that nobody needs": ("{{ [1]|batch(10**9, 'x')|list }}", "batch"),
    "a macro that calls itself": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    "parentheses": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
    "a long template": ("x" * 300_000, "300000 characters"),
}


def rendered(template: str, **variables: Any) -> str:
    return render(template, [{"role": "user", "content": "hello"}], special_tokens={}, variables=variables)


@pytest.mark.parametrize("template", TOO_MUCH_TEXT.values(), ids=TOO_MUCH_TEXT)
def test_a_template_that_makes_too_much_ends_before_it_does(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_CHARACTERS", 1 << 24)
    with pytest.raises(TemplateInvalid, match="makes more than 16 million characters") as caught:
        rendered(template)
    assert caught.value.hint


@pytest.mark.parametrize("template", TOO_LONG.values(), ids=TOO_LONG)
def test_a_template_that_takes_too_long_is_ended(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_SECONDS", 0.05)
    with pytest.raises(TemplateInvalid, match=r"takes more than 0 s|makes more than 256 million"):
        rendered(template)


@pytest.mark.parametrize(("template", "why"), NEVER.values(), ids=NEVER)
def test_what_no_template_may_do(template: str, why: str) -> None:
    with pytest.raises(TemplateInvalid, match=why):
        rendered(template)


def test_a_message_of_a_template_is_shown_in_part() -> None:
    with pytest.raises(TemplateInvalid) as caught:
        rendered("{{ raise_exception('x' * 1000000) }}")
    assert len(caught.value.what) < 500


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ loop.last }} {{ loop.revindex0 }}{% endfor %}",
        "{% for a in items %}{{ loop.previtem }} {{ a }} {{ loop.nextitem }}{% else %}none{% endfor %}",
        "{% for a in nothing %}{% else %}none{% endfor %}{% for k in table %}{{ k }}={{ table[k] }}{% endfor %}",
        "{% for k, v in table.items() if v > 1 %}{{ k }}{{ v }}{% endfor %}",
        "{% for a in tree recursive %}{{ a.name }}{% if a.of %}({{ loop(a.of) }}){% endif %}{% endfor %}",
        "{% for a in items %}{% if a == 2 %}{% continue %}{% endif %}{{ a }}{% endfor %}",
        "{{ 'a' ~ 1 ~ none ~ [1, 'b'] ~ nope }}{{ 'a' ~ 'b' == 'ab' }}",
        "{{ [1, 2] + [3] }}{{ (1, 'x') }}{{ {'a': [1]} }}{{ 'ab' * 2 }}{{ [0] * 3 }}{{ 7 % 4 }}{{ 2 ** -1 }}",
        "{{ '%s and %05.1f' % ('x', 2.5) }}{{ '{0}-{b:>6}'.format(1, b='x') }}{{ '%s!'|format('x') }}",
        "{{ 'a-b'.split('-')[1:] }}{{ messages[0]['content'][::-1] }}{{ items[-1:] }}{{ 'x'.join(['a', 'b']) }}",
        "{{ items|join(', ') }}{{ items|map('string')|join }}{{ items|select('odd')|list }}{{ items|first }}",
        "{{ 'a\nb'|indent(2) }}{{ 'a'.center(5) }}{{ 'a'.rjust(3, '.') }}{{ 'aa'|replace('a', 'b') }}",
        "{% set ns = namespace(n=0, t='') %}{% for a in items %}{% set ns.n = ns.n + a %}{% endfor %}{{ ns.n }}",
        "{% for a in items %}{% set x = namespace(n=a) %}{% set y = namespace(n=dict(m=x.n)) %}{{ y.n.m }}{% endfor %}",
        "{% macro m(a, b='x') %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, c=[4]) }}",
        "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}x{% endcall %}{% set b %}1{% endset %}{{ b }}",
        "{{ 1 in items }}{{ 'l' in 'hello' }}{{ 'a' not in table }}{{ items is iterable }}{{ dict(a=1) }}",
        "{% with a=1, b=[2] %}{{ a }}{{ b }}{% endwith %}{{ range(3)|list }}{{ items|length }}{{ true }}",
        "{% set a, b = 1, 2 %}{{ a }}{{ 1.26|round(1) }}{{ tree|groupby('name') }}{{ items|sort }}{{ table|dictsort }}",
    ],
)
def test_templates_mean_what_they_mean_in_jinja(template: str) -> None:
    known: dict[str, Any] = {
        "items": [1, 2, 3],
        "table": {"a": 1, "b": 2},
        "tree": [{"name": "x", "of": [{"name": "y"}, {"name": "z"}]}, {"name": "w"}],
    }
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    messages = [{"role": "user", "content": "hello"}]
    assert rendered(template, **known) == plain.from_string(template).render(messages=messages, **known)


def test_a_long_conversation_is_no_more_than_a_template_may_make() -> None:
    template = (
        "{% set ns = namespace(text='') %}{% for m in messages %}{% if loop.index <= messages|list|length %}"
        "{% set ns.text = ns.text ~ m.content.replace('a', 'b').strip() + '\n' %}{% endif %}{% endfor %}{{ ns.text }}"
    )
    messages = [{"role": "user", "content": "a long message, " * 20}] * 500
    assert len(render(template, messages, special_tokens={})) == 500 * 320
