"""`model run`: a chat, or one answer."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from edgeship import settings
from edgeship.cli import chat
from edgeship.cli.package import runnable
from edgeship.engine import response_format
from edgeship.engine.api import Constraint, Limits, Message, Sampling
from edgeship.engine.opening import load
from edgeship.errors import ConstraintInvalid, UsageError


@dataclass(frozen=True)
class RunRequest:
    """What to run and how."""

    name: str
    prompt: str | None = None
    system: str | None = None
    sampling: Sampling = field(default_factory=Sampling)


def run(
    request: RunRequest,
    *,
    cache_dir: Path | None,
    threads: int | None,
    stats: bool,
    as_json: bool,
    foundry_app: str | None = None,
    foundry_cache_dir: Path | None = None,
) -> int:
    """Answers the prompt, or what is piped in, once; chats where neither is given."""
    current = settings.resolve(
        cache_dir=cache_dir, threads=threads, foundry_app=foundry_app, foundry_cache_dir=foundry_cache_dir
    )
    found = runnable(request.name, current)
    prompt = request.prompt
    if prompt is None and not sys.stdin.isatty():
        prompt = _piped()
    if prompt is None and as_json:
        raise UsageError("--json needs a prompt", hint='edgeship model run NAME "your prompt" --json')
    engine = load(found.folder, engine=found.engine, threads=current.threads, limits=Limits(slots=1), home=current.home)
    if engine.note:
        print(f"note: {engine.note}", file=sys.stderr)
    try:
        if prompt is None:
            return chat.chat(engine, request.sampling, system=request.system)
        messages: list[Message] = [{"role": "system", "content": request.system}] if request.system else []
        messages.append({"role": "user", "content": prompt})
        return chat.answer_once(engine, messages, request.sampling, as_json=as_json, stats=stats)
    finally:
        engine.close()


def constraint(*, schema: Path | None, regex: str | None, grammar: Path | None) -> Constraint | None:
    """What answers are held to. Raises UsageError for more than one, ConstraintInvalid for a file that is no text."""
    if sum(given is not None for given in (schema, regex, grammar)) > 1:
        raise UsageError("--schema, --regex and --grammar exclude each other", hint="Give one of them.")
    if schema is not None:
        return _schema(_text(schema))
    if grammar is not None:
        return Constraint("lark", _text(grammar))
    return None if regex is None else Constraint("regex", regex)


def _schema(text: str) -> Constraint | None:
    """A JSON schema, also in the wrapper in which OpenAI's clients send it."""
    try:
        value = json.loads(text)
    except ValueError:
        return Constraint("json_schema", text)  # the engine says what is wrong with it
    return response_format.constraint(value) if response_format.is_wrapper(value) else Constraint("json_schema", text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConstraintInvalid(f"it cannot be read: {error}", where=str(path)) from error


def _piped() -> str:
    # Bytes and not text: the platform's encoding need not be UTF-8.
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"what was piped in is not UTF-8: {error}") from error
    if not text.strip():
        raise UsageError("nothing was piped in", hint='Give a prompt: edgeship model run NAME "your prompt"')
    return text.rstrip("\n")
