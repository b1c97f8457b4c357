"""Jinja for templates by strangers: what one makes is paid for, out of a budget of text, items and time.

The library's own sandbox keeps a template from Python, and lets it fill memory or run for ever. Here every text and
every list that a template makes is counted, those that could be huge before they are made.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import jinja2
import jinja2.nodes as nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MOST_CHARACTERS = 1 << 28
"""Of all texts that one rendering makes on its way."""
MOST_SECONDS = 5.0
"""Of a processor, for one rendering or compilation."""
# What an item of a list costs in characters, since it takes about as much memory; and to look at one, which takes time.
_ITEM, _LOOK = 32, 8
# How often the time is looked at: after so many payments, and after each larger one.
_LOOK_EVERY, _MUCH = 64, 100_000
_MOST_BITS = 1 << 15
# What can make much of little. What nobody needs in a prompt is left out, so that nobody has to count it.
_GROWING_METHODS = {"center", "expandtabs", "format", "format_map", "join", "ljust", "replace", "rjust", "to_bytes"}
_GROWING_METHODS |= {"translate", "zfill"}
_GROWING_FILTERS = {"center", "format", "indent", "join", "replace", "round", "string", "tojson"}
_LEFT_OUT = {"batch", "pprint", "slice", "striptags", "sum", "urlize", "wordwrap", "xmlattr"}
# What Jinja itself hands over with a call: the variables of the loop or block in which it stands.
_OF_THE_PLACE = ("_loop_vars", "_block_vars")
_LONG_NUMBER = re.compile(r"\d{4,}")
_NESTED_FIELD = re.compile(r"\{[^{}]*\{")


class TooMuch(Exception):
    """A template made more than its budget."""


class _Budget:
    def __init__(self) -> None:
        self._characters = MOST_CHARACTERS
        self._spent = 0
        self._until = time.thread_time() + MOST_SECONDS

    def spend(self, characters: int) -> None:
        self._characters -= characters
        if self._characters < 0:
            raise TooMuch(f"it makes more than {MOST_CHARACTERS >> 20} million characters")
        self._spent += 1
        # The processor's time and not the clock's: a busy machine is no fault of the template.
        look = characters > _MUCH or self._spent % _LOOK_EVERY == 0
        if look and time.thread_time() > self._until:
            raise TooMuch(f"it takes more than {MOST_SECONDS:.0f} s")


_budget: ContextVar[_Budget] = ContextVar("edgeship template budget")


@contextlib.contextmanager
def budget() -> Iterator[None]:
    """A new budget for what is compiled or rendered in here; without one nothing can be."""
    token = _budget.set(_Budget())
    try:
        yield
    finally:
        _budget.reset(token)


class Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with a budget; see `budget`. Templates mean in it what they mean in Jinja."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, finalize=_shown)
        self.concat = concat  # type: ignore[method-assign]
        self.globals.pop("lipsum")
        for name in _LEFT_OUT:
            del self.filters[name]
        for name in self.filters:
            self.add_filter(name, self.filters[name])
        self.filters |= {"edgeship_counted": _counted, "edgeship_weighed": _weighed, "edgeship_made": _made}

    def add_filter(self, name: str, work: Callable[..., Any]) -> None:
        """A filter that is paid for."""
        self.filters[name] = _paid(work, growing=name in _GROWING_FILTERS)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """See jinja2; what an operator makes is paid for before it is made."""
        if operator == "%" and isinstance(left, str):
            _spend(_formatted(left, "%", right if isinstance(right, tuple) else (right,)))
        elif operator == "*":
            _pay_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * abs(right))
        return _made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, work: Any, *args: Any, **named: Any) -> Any:
        """See jinja2; calls of macros, methods and functions are paid for."""
        method = getattr(work, "__wrapped__", work)
        given = (*args, *(value for name, value in named.items() if name not in _OF_THE_PLACE))
        if getattr(method, "__name__", None) in _GROWING_METHODS and hasattr(method, "__self__"):
            _spend(_grown(method.__self__, given, formats=method.__name__ in ("format", "format_map")))
        elif isinstance(work, type):  # dict, namespace, cycler: they hold what they are given
            for value in given:
                _weight(value)
        return _made(super().call(context, work, *args, **named))

    def _generate(self, source: nodes.Template, *args: Any, **named: Any) -> str:
        return super()._generate(_Counting(self).visit(source), *args, **named)


class _Counting(NodeTransformer):
    """Puts what is counted at run time into a template: loops, texts put together, slices, lists and dicts."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        node.iter = self._filtered(node.iter, "edgeship_counted")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno, environment=self._environment)
        return self._filtered(parts, "join")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filtered(node, "edgeship_made") if isinstance(node.arg, nodes.Slice) else node

    def visit_Assign(self, node: nodes.Assign) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.target, nodes.NSRef):
            node.node = self._filtered(node.node, "edgeship_weighed")
        return node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filtered(node, "edgeship_weighed") if node.ctx == "load" else node

    def visit_List(self, node: nodes.Expr) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filtered(node, "edgeship_weighed")

    visit_Dict = visit_List  # noqa: N815

    def _filtered(self, node: Any, name: str) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=self._environment)


def _spend(characters: int) -> None:
    _budget.get().spend(characters)


def _weight(value: Any) -> int:
    """Characters of all that would be shown of a value. Each item in it is paid for while it is looked at."""
    total, left = 0, [value]
    while left:
        found = left.pop()
        if isinstance(found, str | bytes):
            total += len(found)
        elif isinstance(found, Mapping):
            left += [*found.keys(), *found.values()]
            total += _pay_items(found)
        elif isinstance(found, list | tuple | set | frozenset):
            left += found
            total += _pay_items(found)
        elif isinstance(found, Namespace):
            raise TooMuch("it shows a namespace, or puts one into something else")
        total += 1
    return total


def _pay_items(items: Sequence[Any] | Mapping[Any, Any] | set[Any] | frozenset[Any]) -> int:
    _spend(len(items) * _LOOK)
    return len(items)


def _made(value: Any) -> Any:
    """What was made, paid for: a text by its length, a list by its items."""
    if isinstance(value, str | bytes):
        _spend(len(value))
    elif isinstance(value, list | tuple | dict | set):
        _spend(len(value) * _ITEM)
        _weight(value)
    elif isinstance(value, int):
        _check_bits(value.bit_length())
        _spend(1)
    return value


def _shown(value: Any) -> Any:
    """What stands in {{ }}, paid for."""
    _spend(len(value) if isinstance(value, str) else _weight(value))
    return value


def _weighed(value: Any) -> Any:
    """A list or dict written in the template, paid for with all that is in it."""
    if isinstance(value, list | tuple | dict):
        _spend(len(value) * _ITEM)
    _weight(value)
    return value


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    """What a loop goes through, paid for."""
    for item in items:
        _spend(1)
        yield item


def concat(parts: Iterable[str]) -> str:
    """A text out of parts, each paid for as it comes."""
    found = []
    for part in parts:
        _spend(len(part) + _LOOK)
        found.append(part)
    return "".join(found)


def _paid(work: Callable[..., Any], *, growing: bool) -> Callable[..., Any]:
    @functools.wraps(work)
    def paid(*args: Any, **named: Any) -> Any:
        if growing:
            skipped = len(args) and isinstance(args[0], Context | jinja2.Environment | nodes.EvalContext)
            value, *given = args[skipped:]
            if isinstance(value, Iterator):
                value = list(_counted(value))
            args = (*args[:skipped], value, *given)
            _spend(_grown(value, (*given, *named.values()), formats=work.__name__ == "do_format"))
        return _made(work(*args, **named))

    return paid


def _grown(value: Any, given: Sequence[Any], *, formats: bool) -> int:
    """Characters that a growing method or filter makes of a value at most."""
    if formats and isinstance(value, str):
        return _formatted(value, "%" if "%" in value else "{", given)
    return (_weight(value) + 1) * (1 + sum(map(_factor, given)))


def _formatted(form: str, mark: str, given: Sequence[Any]) -> int:
    """Characters that a formatted text has at most: each mark may show all that is given, as wide as numbers say."""
    if mark == "{" and _NESTED_FIELD.search(form):
        raise TooMuch("it has a format within a format")
    width = sum(min(int(digits[:12]), MOST_CHARACTERS + 1) for digits in _LONG_NUMBER.findall(form))
    return len(form) + width + form.count(mark) * (1 + sum(map(_factor, given)))


def _factor(given: Any) -> int:
    if isinstance(given, bool) or given is None:
        return 1
    return abs(given) if isinstance(given, int) else _weight(given)


def _pay_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for many, count in ((left, right), (right, left)):
        if isinstance(many, str | bytes | list | tuple) and isinstance(count, int):
            _spend(len(many) * max(0, count) * (1 if isinstance(many, str | bytes) else _ITEM))


def _check_bits(bits: float) -> None:
    if bits > _MOST_BITS:
        raise TooMuch(f"it makes a number of more than {math.floor(_MOST_BITS * math.log10(2))} digits")
