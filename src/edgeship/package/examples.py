"""Examples, a question and its answer, in the shapes that fine-tuning and evaluation files have them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeship.package.conversation import text_of
from edgeship.system import json_file

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}
_CONVERSATIONS = ("messages", "conversations", "prompt")
_ANSWERS = ("completion", "output", "response", "answer")
_QUESTIONS = ("instruction", "prompt", "question", "input")
_TOLD_BESIDE = ("tools", "functions", "images", "videos", "audios")
_OF_A_TURN = ("tool_calls", "function_call", "tool_call_id", "name")
_TOLD_WITH_QUESTION = ("passage", "documents", "choices", "options")

READ = frozenset(
    (*_CONVERSATIONS, *_ANSWERS, *_QUESTIONS, *_TOLD_WITH_QUESTION, "system", "context", "history", "answers", "ideal")
)
"""What the fields of examples are called that are read here, or refused by others."""


def document(text: str) -> list[Any] | None:
    """The examples of a text that is one JSON document: an array of them, as Alpaca's files are, or a single one.

    None for any other text, such as JSON Lines.
    """
    start = text.lstrip()[:1]
    if start != "[" and not (start == "{" and "\n" in text.strip()):
        return None
    try:
        found = json_file.parse(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else [found]


def unified(example: Mapping[str, Any]) -> dict[str, Any]:
    """The example as `messages` that wait for an answer, and the answer as `expected`.

    Read are `messages` that end with the assistant, ShareGPT's `conversations`, `prompt` and `completion`, Alpaca's
    `instruction`, `input` (or Dolly's `context`), `history` and `output`, `question` and `answer`, with any `system`;
    and where several answers are right, lists of texts as `answers` or `ideal`. What is in our shape already, or in
    none of these, is left as it is; so are fields that belong to the prompt, such as `tools`, for others to refuse.
    """
    turns = _turns(example)
    if "expected" in example or turns is None:
        return dict(example)
    kept = {key: example[key] for key in ("id", "slice", "match") if key in example} | _unread(example, turns)
    answers = example.get("answers", example.get("ideal"))
    if answers is None:
        answers = next((example[name] for name in _ANSWERS if name in example), None)
    if _is_list_of_objects(answers):  # messages too, as TRL has them
        turns, answers = [*turns, *map(_turn, answers)], None
    if answers is None and turns[-1]["role"] == "assistant" and turns[-1].keys() <= {"role", "content", "name"}:
        turns, answers = turns[:-1], turns[-1]["content"]
    if isinstance(answers, list):
        kept = {"match": "exact", **kept}
    return kept | {"messages": turns} | ({} if answers is None else {"expected": answers})


def _turns(example: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    system = example.get("system")
    first = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
    for name in _CONVERSATIONS:
        if _is_list_of_objects(example.get(name)):
            turns = [_turn(turn) for turn in example[name]]
            return turns if any(turn["role"] == "system" for turn in turns) else [*first, *turns]
    if isinstance(example.get("instruction"), str):
        parts = [example["instruction"], example.get("input"), example.get("context")]
        texts = ["\n\n".join(part for part in parts if isinstance(part, str) and part.strip())]
    else:
        texts = [example[name] for name in _QUESTIONS if isinstance(example.get(name), str)]
    if not texts:
        return None
    return [*first, *_earlier(example), {"role": "user", "content": texts[0]}]


def _earlier(example: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Alpaca's `history`, which is pairs of a question and its answer."""
    pairs = example.get("history")
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs
    ):
        return []
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True)]


def _unread(example: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the model was told in training and `turns` do not say: it must not go without a word."""
    said = [str(turn["content"]) for turn in turns]
    asked = [name for name in _QUESTIONS if isinstance(example.get(name), str)]
    names = [*_TOLD_BESIDE, *(name for name in asked if not any(example[name].strip() in text for text in said))]
    if example.get("system") != turns[0]["content"]:
        names.append("system")
    if not any(_is_list_of_objects(example.get(name)) for name in _CONVERSATIONS):
        names += _TOLD_WITH_QUESTION
        names += [] if "instruction" in example else ["context"]
        names += [] if _earlier(example) else ["history"]
    return {name: example[name] for name in names if str(example.get(name) or "").strip() not in ("", "[]")}


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A message of OpenAI's or ShareGPT's: role, text and calls; marks of trainers, such as a weight, go."""
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if _is_list_of_objects(content) and all(map(_is_text_part, content)):
        content = text_of(content)
    more = {name: turn[name] for name in _OF_A_TURN if turn.get(name)}
    return {"role": _ROLES.get(str(role), role), "content": content, **more}


def _is_text_part(part: Mapping[str, Any]) -> bool:
    return part.get("type", "text") == "text" and isinstance(part.get("text"), str)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(isinstance(item, Mapping) for item in value)
