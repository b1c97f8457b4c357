"""How models write the arguments of calls, where they write no JSON. One value of `Notation` is one way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
"""What models write for these three, whatever the notation."""
_MARK = re.compile(r"<[^<>\s]+>")
_BARE_NAME = re.compile(r"[^\s\"'<>{}\[\]():=,]+")


@dataclass(frozen=True)
class Notation:
    """What stands around the parts of a call, and how values are written.

    before_name, opens: around the name of the function. closes: after its arguments.
    before_key, after_key: around the name of an argument. after_value: after its value, where that has no end itself.
    between: two arguments, and two items of lists and objects. colon: after a key of an object.
    quotes: a text stands in any of these, first the one that is written. Where there are none, a text stands as it is
    up to `after_value`, and every other value there is JSON.
    escapes: texts have escapes, by backslashes; without, every character stands for itself.
    bare_keys: the keys of objects stand in no quotes.
    words: how true, false and null are written; all of WORDS are read.
    sorted_keys: models are shown arguments in the order of their names.
    """

    opens: str
    closes: str
    after_key: str
    before_name: str = ""
    before_key: str = ""
    after_value: str = ""
    between: str = ""
    colon: str = ":"
    quotes: tuple[str, ...] = ()
    escapes: bool = False
    bare_keys: bool = False
    words: tuple[str, str, str] = ("true", "false", "null")
    sorted_keys: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """All that the tokenizer may have as one token each."""
        around = (self.before_name, self.opens, self.before_key, self.after_key, self.after_value, self.closes)
        return tuple(_MARK.findall(" ".join((*around, *self.quotes))))

    def takes(self, name: str) -> bool:
        """Whether a call can have an argument of this name."""
        if self.before_key:
            return bool(name) and name == name.strip() and self.after_key not in name
        if self.bare_keys:
            return not any(quote in name for quote in self.quotes)
        return bool(_BARE_NAME.fullmatch(name))

    def ordered(self, arguments: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Arguments in the order in which they are written."""
        return sorted(arguments.items(), key=lambda item: item[0].lower()) if self.sorted_keys else [*arguments.items()]

    def written(self, name: str, arguments: Mapping[str, Any]) -> str:
        """A call as a model writes it."""
        each = (f"{self.key(name)}{self._argument(value)}" for name, value in self.ordered(arguments))
        return f"{self.before_name}{name}{self.opens}{self.between.join(each)}{self.closes}"

    def key(self, name: str) -> str:
        """What stands before the value of an argument."""
        bare = self.before_key or _BARE_NAME.fullmatch(name)
        return f"{self.before_key}{name if bare else self.text(name)}{self.after_key}"

    def member(self, name: str) -> str:
        """What stands before a value in an object."""
        bare = self.bare_keys and _BARE_NAME.fullmatch(name)
        return f"{name if bare else self.text(name)}{self.colon}"

    def text(self, text: str) -> str:
        """A text in quotes."""
        return json.dumps(text, ensure_ascii=False) if self.escapes else f"{self.quotes[0]}{text}{self.quotes[0]}"

    def value(self, value: Any) -> str:
        """A value that has an end itself."""
        if isinstance(value, str):
            return self.text(value)
        if value is True or value is False or value is None:
            return self.words[(True, False, None).index(value)]
        if isinstance(value, Mapping):
            members = (self.member(name) + self.value(each) for name, each in self.ordered(value))
            return f"{{{self._joined(members)}}}"
        if isinstance(value, list | tuple):
            return f"[{self._joined(map(self.value, value))}]"
        return json.dumps(value)

    def _argument(self, value: Any) -> str:
        if self.quotes:
            return self.value(value)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return text + self.after_value

    def _joined(self, items: Iterable[str]) -> str:
        return self.between.join(items)


MARKED = Notation(
    before_name="call:", opens="{", after_key=":", between=",", closes="}", bare_keys=True, sorted_keys=True
)
"""Gemma's, but for its quotes."""
PYTHONIC = Notation(
    opens="(",
    after_key="=",
    between=", ",
    colon=": ",
    closes=")",
    quotes=('"', "'"),
    escapes=True,
    words=("True", "False", "None"),
)
"""A call in Python, with arguments by name."""
FUNCTION_TAGS = Notation(
    before_name="<function=",
    opens=">",
    before_key="\n<parameter=",
    after_key=">\n",
    after_value="\n</parameter>",
    closes="\n</function>",
)
"""Qwen3-Coder's and Qwen3.5's."""
ARGUMENT_TAGS = Notation(
    opens="\n",
    before_key="<arg_key>",
    after_key="</arg_key>\n<arg_value>",
    after_value="</arg_value>\n",
    closes="</tool_call>",
)
"""GLM's."""
INVOKE_TAGS = Notation(
    before_name='<invoke name="',
    opens='">',
    before_key='\n<parameter name="',
    after_key='">',
    after_value="</parameter>",
    closes="\n</invoke>",
)
"""MiniMax's."""
