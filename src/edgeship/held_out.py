"""Calibration texts without the cases that the verdict is taken from: no model is judged by what it was fitted to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeship.builder.calibration_texts import BUDGET_TOKENS, BUILT_IN, read_entries
from edgeship.errors import CalibrationInvalid
from edgeship.measure.cases.evalset import EvalCase
from edgeship.package.example_entries import Entry
from edgeship.recipe import Recipe
from edgeship.system.storage import write_file

_LEAST_CHARACTERS = 12
"""Of a question that is looked for inside of texts: a shorter one may be part of any."""
_MOST_CHARACTERS = 64 * BUDGET_TOKENS
"""Of the texts that are looked through: more than will be read of them."""


def without_cases(
    recipes: Sequence[Recipe], cases: Sequence[EvalCase], folder: Path
) -> tuple[tuple[Recipe, ...], tuple[str, ...]]:
    """The recipes, with texts in `folder` where their own held cases, and what is to be said of that.

    A case is known by its question, whatever the white space and upper or lower case. Raises CalibrationInvalid where
    no other text is left.
    """
    paths = dict.fromkeys(recipe.calibration or BUILT_IN for recipe in recipes if cases and recipe.calibrated)
    rests: dict[Path, Path] = {}
    said = []
    for at, path in enumerate(paths):
        rest = folder / f"calibration-{at}.jsonl"
        if left_out := _leave_out(path, cases, rest):
            rests[path] = rest
            said.append(f"calibration texts that are cases of the evaluation are left out: {left_out}")
    return tuple(_reading(recipe, rests) for recipe in recipes), tuple(said)


def _reading(recipe: Recipe, rests: Mapping[Path, Path]) -> Recipe:
    rest = rests.get(recipe.calibration or BUILT_IN) if recipe.calibrated else None
    return recipe.model_copy(update={"calibration": rest}) if rest else recipe


def _leave_out(path: Path, cases: Sequence[EvalCase], rest: Path) -> int:
    """How many of the texts are cases; if there are any, the others are in the file `rest` then."""
    entries = _first_of(path)
    questions = {_plain(case.question) for case in cases}
    kept = [entry for entry in entries if not _asks(entry, questions)]
    left_out = len(entries) - len(kept)
    if len(entries) == 1 and isinstance(entries[0].content, str):  # plain text is cut, and not left out as a whole
        text, left_out = _cut(entries[0].content, cases, questions)
        kept = [Entry(entries[0].where, text)] if text.strip() else []
    if not left_out:
        return 0
    if not kept:
        raise CalibrationInvalid(
            "all calibration texts are cases of the evaluation, and no model is judged by what it was fitted to",
            where=str(path),
            hint="Calibrate with other texts; without --calibrate, built-in ones are read.",
        )
    lines = ({"text": entry.content} if isinstance(entry.content, str) else entry.content for entry in kept)
    write_file(rest, "".join(f"{json.dumps(line)}\n" for line in lines))
    return left_out


def _first_of(path: Path) -> list[Entry]:
    entries, left = [], _MOST_CHARACTERS
    for entry in read_entries(path):
        entries.append(entry)
        left -= len(json.dumps(entry.content))
        if left < 0:
            break
    return entries


def _asks(entry: Entry, questions: set[str]) -> bool:
    content = entry.content
    texts = [content] if isinstance(content, str) else [turn["content"] for turn in content["messages"]]
    return any(_holds(_plain(text), questions) for text in texts)


def _holds(text: str, questions: set[str]) -> bool:
    return text in questions or any(len(question) >= _LEAST_CHARACTERS and question in text for question in questions)


def _cut(text: str, cases: Sequence[EvalCase], questions: set[str]) -> tuple[str, int]:
    """The text without the cases, with their answers where those follow; and how many were there."""
    text, found = text[:_MOST_CHARACTERS], 0
    if not _holds(whole := _plain(text), questions):
        return text, 0
    for case in cases:
        if _plain(case.question) in whole and len(case.question) >= _LEAST_CHARACTERS:
            question, answer = _pattern(case.question), _pattern(case.right_answer or "")
            text, count = re.subn(rf"{question}(\s+(\S+:\s+)?{answer})?", " ", text, flags=re.IGNORECASE)
            found += count
    return text, found


def _pattern(text: str) -> str:
    return r"\s+".join(map(re.escape, text.split()))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
