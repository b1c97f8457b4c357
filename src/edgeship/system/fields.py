"""The fields of a document that somebody brings, read with their types: what is wrong is told by field and value."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LARGEST = 2**31 - 1
"""Of whole numbers: sizes, counts and ids of whatever model are below it."""
_AN_OBJECT, _A_LIST, _A_WHOLE = "it must be an object", "it must be a list", "it must be a whole number"
_PYDANTICS: Mapping[str, str] = {
    "missing": "it is missing",
    "string_type": "it must be a text",
    "string_unicode": "it must be a text",
    "bool_type": "it must be true or false",
    "bool_parsing": "it must be true or false",
    "float_type": "it must be a number",
    "float_parsing": "it must be a number",
    "finite_number": "it must be a finite number",
    "int_type": _A_WHOLE,
    "int_from_float": _A_WHOLE,
    "int_parsing": _A_WHOLE,
    "int_parsing_size": "it has too many digits",
    "list_type": _A_LIST,
    "tuple_type": _A_LIST,
    "literal_error": "it must be {expected}",
    "dict_type": _AN_OBJECT,
    "model_type": _AN_OBJECT,
    "dataclass_type": _AN_OBJECT,
    "dataclass_exact_type": _AN_OBJECT,
    "model_attributes_type": _AN_OBJECT,
    "union_tag_not_found": "it does not say by its {discriminator} what it is",
    "too_short": "it has {actual_length} entries, and {min_length} are the least",
    "too_long": "it has more than {max_length} entries",
    "string_too_short": "it must have {min_length} characters or more",
    "string_too_long": "it must have {max_length} characters or fewer",
    "greater_than": "it must be more than {gt}",
    "greater_than_equal": "it must be {ge} or more",
    "less_than": "it must be less than {lt}",
    "less_than_equal": "it must be {le} or less",
}
"""What is said of a fault in place of pydantic's words; what our own checks say stays."""
_SHOWN = 60
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _SHOWN


def shown(value: object) -> str:
    """A value as messages show it: escaped, on one line, and short however large it is."""
    text = _REPR.repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def in_words(fault: Mapping[str, Any]) -> str:
    """What is wrong with a field by one of the faults that pydantic lists, without its own words for Python's types."""
    words = _PYDANTICS.get(fault["type"])
    return words.format(**fault.get("ctx", {})) if words else str(fault["msg"]).removeprefix("Value error, ")


@dataclass(frozen=True)
class Fields:
    """An object in a document. Null is as good as nothing: what is not there reads as None or as empty.

    values: the fields as they stand there. refuse: makes the error of "has FIELD VALUE, which is not ...".
    name: where the object stands in the document, with a point at the end; "" for the whole.
    """

    values: Mapping[str, Any]
    refuse: Callable[[str], Exception]
    name: str = ""

    def part(self, key: str) -> Fields:
        """The object in a field."""
        found: Mapping[str, Any] = self._of_type(key, dict, "an object") or {}
        return Fields(found, self.refuse, f"{self.name}{key}.")

    def parts(self, key: str) -> list[Fields]:
        """The objects in a list."""
        for place, item in enumerate(self.items(key)):
            if not isinstance(item, dict):
                raise self.wrong(f"{key}[{place}]", item, "an object")
        return [Fields(item, self.refuse, f"{self.name}{key}[{place}].") for place, item in enumerate(self.items(key))]

    def count(self, key: str, *, least: int = 1, most: int = LARGEST) -> int | None:
        """A whole number from `least` to `most`."""
        value: int | None = self._of_type(key, int, "a whole number")
        if value is not None and not least <= value <= most:
            bound = f"of at least {least}" if value < least else f"of at most {most}"
            raise self.wrong(key, value, f"a whole number {bound}")
        return value

    def required_count(self, key: str, *, least: int = 1, most: int = LARGEST) -> int:
        """A whole number from `least` to `most` that must be there."""
        value = self.count(key, least=least, most=most)
        if value is None:
            raise self.missing(key, f"a whole number of at least {least}")
        return value

    def number(
        self, key: str, *, above: float | None = None, least: float | None = None, most: float | None = None
    ) -> float | None:
        """A finite number, larger than `above`, from `least` to `most`, where these are given."""
        wanted = _wanted("a number", above, least, most)
        value: float | None = self._of_type(key, (int, float), wanted)
        if value is not None and not _is_between(value, above, least, most):
            raise self.wrong(key, value, wanted)
        return None if value is None else float(value)

    def required_number(self, key: str, *, above: float | None = None) -> float:
        """A finite number that must be there."""
        value = self.number(key, above=above)
        if value is None:
            raise self.missing(key, _wanted("a number", above))
        return value

    def required_numbers(self, key: str, count: int, *, above: float | None = None) -> list[float]:
        """So many finite numbers."""
        wanted = _wanted(f"a list of {count} numbers", above)
        if self.values.get(key) is None:
            raise self.missing(key, wanted)
        found = self.items(key)
        numbers = [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
        if not len(numbers) == len(found) == count or not all(_is_between(value, above) for value in numbers):
            raise self.wrong(key, found, wanted)
        return [float(value) for value in numbers]

    def ids(self, key: str) -> tuple[int, ...]:
        """A token id, or a list of them; null and what is below zero stand for none."""
        value = self.values.get(key)
        found = [] if value is None else value if isinstance(value, list) else [value]
        if not all(number is None or (type(number) is int and number <= LARGEST) for number in found):
            raise self.wrong(key, value, "a token id, or a list of them")
        return tuple(number for number in found if number is not None and number >= 0)

    def flag(self, key: str) -> bool | None:
        """True or false."""
        found: bool | None = self._of_type(key, bool, "true or false")
        return found

    def text(self, key: str, allowed: Sequence[str] = ()) -> str | None:
        """A text, one of `allowed` where there are any."""
        found: str | None = self._of_type(key, str, "a text")
        if found is not None and allowed and found not in allowed:
            raise self.wrong(key, found, f"one of {', '.join(allowed)}")
        return found

    def required_text(self, key: str) -> str:
        """A text that must be there."""
        found = self.text(key)
        if found is None:
            raise self.missing(key, "a text")
        return found

    def texts(self, key: str) -> list[str]:
        """A list of texts."""
        found = self.items(key)
        if not all(isinstance(item, str) for item in found):
            raise self.wrong(key, found, "a list of texts")
        return found

    def items(self, key: str) -> list[Any]:
        """A list."""
        return self._of_type(key, list, "a list") or []

    def wrong(self, key: str, value: object, wanted: str) -> Exception:
        """The error for a field that has this value."""
        return self.refuse(f"has {self.name}{key} {shown(value)}, which is not {wanted}")

    def missing(self, key: str, wanted: str) -> Exception:
        """The error for a field that must be there."""
        return self.refuse(f"has no {self.name}{key}, which must be {wanted}")

    def _of_type(self, key: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        value = self.values.get(key)
        # To Python true is a number.
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise self.wrong(key, value, wanted)
        return value


def _wanted(what: str, above: float | None, least: float | None = None, most: float | None = None) -> str:
    bounds = {"above": above, "of at least": least, "of at most": most}
    return f"{what} {' and '.join(f'{word} {bound:g}' for word, bound in bounds.items() if bound is not None)}".rstrip()


def _is_between(
    value: float, above: float | None = None, least: float | None = None, most: float | None = None
) -> bool:
    return (
        -sys.float_info.max <= value <= sys.float_info.max
        and (above is None or value > above)
        and (least is None or value >= least)
        and (most is None or value <= most)
    )
