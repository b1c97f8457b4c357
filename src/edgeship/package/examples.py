"""Examples, a question and its answer, in the shapes that fine-tuning and evaluation files have them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeship.package.conversation import text_of
from edgeship.system import json_file

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
_ANSWERS = ("completion", "output", "response", "answer")


def array(text: str) -> list[dict[str, Any]] | None:
    """The examples of a text that is one JSON array of objects, as Alpaca's files are; None for any other text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json_file.parse(text)
    except ValueError:
        return None
    return found if _is_list_of_objects(found) else None


def unified(example: Mapping[str, Any]) -> dict[str, Any]:
    """The example as `messages` that wait for an answer, and the answer as `expected`.

    Read are `messages` that end with the assistant, ShareGPT's `conversations`, `prompt` and `completion`, Alpaca's
    `instruction`, `input` and `output`, `question` and `answer`; and where several answers are right, lists of texts as
    `answers` or `ideal`. What is in our shape already, or in none of these, is left as it is.
    """
    turns = _turns(example)
    if "expected" in example or turns is None:
        return dict(example)
    kept = {key: example[key] for key in ("id", "slice", "match") if key in example}
    answers = example.get("answers", example.get("ideal"))
    if answers is None:
        answers = next((example[name] for name in _ANSWERS if name in example), None)
    if isinstance(answers, list) and answers and all(isinstance(answer, Mapping) for answer in answers):
        answers = _turn(answers[-1])["content"]  # messages too, as TRL has them
    if answers is None and turns and turns[-1].get("role") == "assistant":
        turns, answers = turns[:-1], turns[-1].get("content")
    if isinstance(answers, list):
        kept = {"match": "exact", **kept}
    return kept | {"messages": turns} | ({} if answers is None else {"expected": answers})


def _turns(example: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    for name in ("messages", "conversations", "prompt"):
        if _is_list_of_objects(example.get(name)):
            return [_turn(turn) for turn in example[name]]
    if isinstance(example.get("instruction"), str):
        parts = [example["instruction"], example.get("input")]
        texts = ["\n\n".join(part for part in parts if isinstance(part, str) and part.strip())]
    else:
        texts = [example[name] for name in ("prompt", "question", "input") if isinstance(example.get(name), str)]
    if not texts:
        return None
    system = example.get("system")
    first = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
    return [*first, {"role": "user", "content": texts[0]}]


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A message of OpenAI's or ShareGPT's with its role and its text; marks of trainers, such as a weight, go."""
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if _is_list_of_objects(content) and all(isinstance(part.get("text"), str) for part in content):
        content = text_of(content)
    return {"role": _ROLES.get(str(role), role), "content": content}


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(isinstance(item, Mapping) for item in value)
