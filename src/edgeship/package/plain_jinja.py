"""A chat template in the words of onnxruntime-genai's renderer, for templates that it refuses or renders otherwise.

That renderer leaves the line ends around blocks in place, finds no text in a text by `in`, and lacks some methods and
filters. So a template is taken apart by Jinja itself, which has then dealt with white space, and is written out again
with texts as constants and what is lacking said in other words. What comes out means the same to Jinja.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeship.errors import UsageError
from edgeship.package import template as templates
from edgeship.package.conversation import require_variable

if TYPE_CHECKING:
    from jinja2 import nodes

# transformers hands over None for these where there are none, and onnxruntime-genai nothing.
_ALWAYS_THERE = ("tools", "documents")


def rewrite(template: str) -> str | None:
    """The template in other words; None where it has what cannot be said in them. Raises TemplateInvalid."""
    try:
        body = _block(templates.syntax(template).body)
    except (_NoWordsFor, RecursionError):
        return None
    given = (f"{{%- if {name} is not defined %}}{{%- set {name} = none %}}{{%- endif %}}" for name in _ALWAYS_THERE)
    return "".join(given) + body


def with_variables(template: str, variables: Mapping[str, Any]) -> str:
    """The template with these variables where a conversation brings no others, for readers that can be given none.

    Raises UsageError for a name that is none (PromptInvalid), and for a value that JSON does not have.
    """
    assigned = []
    for name, value in variables.items():
        require_variable(name)
        assigned.append(f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}")
    # The line end goes with the block before it, and the template's first line stays at the beginning of a line.
    return "".join(assigned) + "\n" + template if assigned else template


def _literal(value: Any) -> str:
    """A JSON value as a template states it. Raises UsageError."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return "{" + ", ".join(f"{_text(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    raise UsageError(f"a template variable is {value!r}, which JSON does not have", hint="Give a JSON value or a text.")


def say(text: str) -> str:
    """A template that renders a text."""
    return f"{{{{ {_text(text)} }}}}"


def texts(template: str) -> tuple[str, ...]:
    """The texts that stand in a template, such as tags that it looks for in what was said. Raises TemplateInvalid."""
    from jinja2 import nodes

    constants = (node.value for node in templates.syntax(template).find_all(nodes.Const))
    return tuple(dict.fromkeys(value for value in constants if isinstance(value, str) and value.strip()))


class _NoWordsFor(Exception):
    """A kind of node that is not known here."""


def _block(body: Sequence[nodes.Node]) -> str:
    return "".join(_of(node, _STATEMENTS) for node in body)


def _say(node: Any) -> str:
    return _of(node, _EXPRESSIONS)


def _of(node: nodes.Node, words: dict[str, Callable[[Any], str]]) -> str:
    kind = type(node).__name__
    if kind not in words:
        raise _NoWordsFor(kind)
    return words[kind](node)


# --- statements ------------------------------------------------------------------------------------------------------


def _output(node: nodes.Output) -> str:
    from jinja2 import nodes

    shown = (_text(part.data) if isinstance(part, nodes.TemplateData) else _say(part) for part in node.nodes)
    return "".join(f"{{{{ {text} }}}}" for text in shown)


def _if(node: nodes.If) -> str:
    others = "".join(f"{{%- elif {_say(other.test)} %}}{_block(other.body)}" for other in node.elif_)
    last = f"{{%- else %}}{_block(node.else_)}" if node.else_ else ""
    return f"{{%- if {_say(node.test)} %}}{_block(node.body)}{others}{last}{{%- endif %}}"


def _for(node: nodes.For) -> str:
    if node.recursive:
        raise _NoWordsFor("recursive")
    only = f" if {_say(node.test)}" if node.test else ""
    otherwise = f"{{%- else %}}{_block(node.else_)}" if node.else_ else ""
    target = _target(node.target)
    return f"{{%- for {target} in {_say(node.iter)}{only} %}}{_block(node.body)}{otherwise}{{%- endfor %}}"


def _macro(node: nodes.Macro) -> str:
    plain = len(node.args) - len(node.defaults)
    defaults = [""] * plain + [f"={_say(value)}" for value in node.defaults]
    arguments = ", ".join(f"{argument.name}{default}" for argument, default in zip(node.args, defaults, strict=True))
    return f"{{%- macro {node.name}({arguments}) %}}{_block(node.body)}{{%- endmacro %}}"


def _target(node: nodes.Node) -> str:
    """What is assigned to; names in a row stand without brackets."""
    from jinja2 import nodes

    if isinstance(node, nodes.Tuple):
        return ", ".join(_say(item) for item in node.items)
    return _say(node)


# --- expressions -----------------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r") + '"'


def _constant(node: nodes.Const) -> str:
    if isinstance(node.value, str):
        return _text(node.value)
    return "none" if node.value is None else repr(node.value)


def _operation(sign: str) -> Callable[[Any], str]:
    return lambda node: f"({_say(node.left)} {sign} {_say(node.right)})"


def _compare(node: nodes.Compare) -> str:
    if len(node.ops) > 1:
        raise _NoWordsFor("comparisons in a row")
    signs = {"eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">="}
    left, right, operation = _say(node.expr), _say(node.ops[0].expr), node.ops[0].op
    if operation in signs:
        return f"({left} {signs[operation]} {right})"
    if _is_made(node.ops[0].expr):
        raise _NoWordsFor("a search in what is made on the spot")
    found = f"(({right}.split({left}) | length > 1) if {right} is string else ({left} in {right}))"
    return found if operation == "in" else f"(not {found})"


def _is_made(node: nodes.Node) -> bool:
    """Whether an expression is more than a name and its parts: such a one is not written out several times."""
    from jinja2 import nodes

    parts = (nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Neg, nodes.List, nodes.Tuple)
    return any(not isinstance(part, parts) for part in (node, *node.find_all(nodes.Expr)))


def _call(node: nodes.Call) -> str:
    from jinja2 import nodes

    arguments = _arguments(node)
    if isinstance(node.node, nodes.Getattr):
        owner, method = _say(node.node.node), node.node.attr
        if method == "replace" and len(node.args) == 2 and not node.kwargs:
            return f"({owner}.split({arguments[0]}) | join({arguments[1]}))"
        if method in ("lower", "upper") and not arguments:
            return f"({owner} | {method})"
    return f"{_say(node.node)}({', '.join(arguments)})"


def _filter(node: nodes.Filter) -> str:
    if node.node is None:
        raise _NoWordsFor("a filter over a block")
    owner, arguments = _say(node.node), _arguments(node)
    if node.name == "replace" and len(arguments) == 2:
        return f"({owner}.split({arguments[0]}) | join({arguments[1]}))"
    if node.name == "first" and not _is_made(node.node):
        return f"({owner}[:1] if {owner} is string else {owner}[0])"
    return f"({owner} | {node.name}{_in_brackets(arguments)})"


def _test(node: nodes.Test) -> str:
    return f"({_say(node.node)} is {node.name}{_in_brackets(_arguments(node))})"


def _arguments(node: nodes.Call | nodes.Filter | nodes.Test) -> list[str]:
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise _NoWordsFor("arguments in a list")
    return [*map(_say, node.args), *(f"{pair.key}={_say(pair.value)}" for pair in node.kwargs)]


def _in_brackets(arguments: Sequence[str]) -> str:
    return f"({', '.join(arguments)})" if arguments else ""


def _choice(node: nodes.CondExpr) -> str:
    return f"({_say(node.expr1)} if {_say(node.test)} else {_say(node.expr2) if node.expr2 else _text('')})"


def _slice(node: nodes.Slice) -> str:
    start, stop, step = (_say(part) if part else "" for part in (node.start, node.stop, node.step))
    return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"


_STATEMENTS: dict[str, Callable[[Any], str]] = {
    "Output": _output,
    "If": _if,
    "For": _for,
    "Macro": _macro,
    "Scope": lambda node: _block(node.body),
    "Assign": lambda node: f"{{%- set {_target(node.target)} = {_say(node.node)} %}}",
    "AssignBlock": lambda node: f"{{%- set {_target(node.target)} %}}{_block(node.body)}{{%- endset %}}",
    "Break": lambda _: "{%- break %}",
    "Continue": lambda _: "{%- continue %}",
}
_EXPRESSIONS: dict[str, Callable[[Any], str]] = {
    "Name": lambda node: node.name,
    "NSRef": lambda node: f"{node.name}.{node.attr}",
    "Const": _constant,
    "List": lambda node: f"[{', '.join(map(_say, node.items))}]",
    "Tuple": lambda node: f"({''.join(f'{_say(item)}, ' for item in node.items)})",
    "Dict": lambda node: "{" + ", ".join(f"{_say(pair.key)}: {_say(pair.value)}" for pair in node.items) + "}",
    "CondExpr": _choice,
    "Filter": _filter,
    "Test": _test,
    "Call": _call,
    "Getattr": lambda node: f"{_say(node.node)}.{node.attr}",
    "Getitem": lambda node: f"{_say(node.node)}[{_say(node.arg)}]",
    "Slice": _slice,
    "Concat": lambda node: f"({' ~ '.join(map(_say, node.nodes))})",
    "Compare": _compare,
    "Not": lambda node: f"(not {_say(node.node)})",
    "Neg": lambda node: f"(-{_say(node.node)})",
    "Pos": lambda node: _say(node.node),
    **{
        kind: _operation(sign)
        for kind, sign in (
            *(("And", "and"), ("Or", "or"), ("Add", "+"), ("Sub", "-"), ("Mul", "*")),
            *(("Div", "/"), ("FloorDiv", "//"), ("Mod", "%")),
        )
    },
}
