"""`edgeship model run`: a chat, or one answer."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeship import settings
from edgeship.cli.options import (
    CacheDir,
    Json,
    MaxTokens,
    Prompt,
    Schema,
    Stats,
    System,
    Temperature,
    Threads,
    grouped,
)
from edgeship.errors import ConstraintInvalid, UsageError
from edgeship.system import foreign

if TYPE_CHECKING:
    from edgeship.engine.api import Constraint, Message, Sampling
    from edgeship.targets import Target

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:VERSION]",
        help="A package in the cache, or its folder; foundry:NAME runs what is registered there in Foundry Local; "
        "a URL asks a server.",
    ),
]
ServerModel = Annotated[
    str | None, typer.Option("--model", help="For a URL: which of the server's models.", show_default="its only one")
]
KeyVariable = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        metavar="VARIABLE",
        help="For a URL: the environment variable that holds the server's key.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class AnswerOptions:
    """How an answer is made, and what it is held to."""

    temperature: Temperature = None
    top_p: Annotated[float | None, typer.Option("--top-p", show_default="the package's")] = None
    top_k: Annotated[int | None, typer.Option("--top-k", show_default="the package's")] = None
    repetition_penalty: Annotated[float | None, typer.Option("--repetition-penalty", show_default="the package's")] = (
        None
    )
    min_p: Annotated[float | None, typer.Option("--min-p", show_default=False)] = None
    presence_penalty: Annotated[float | None, typer.Option("--presence-penalty", show_default=False)] = None
    frequency_penalty: Annotated[float | None, typer.Option("--frequency-penalty", show_default=False)] = None
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="A text that ends the answer; may be given again.", show_default=False),
    ] = None
    schema: Schema = None
    regex: Annotated[
        str | None,
        typer.Option("--regex", help="A regular expression that answers are held to.", show_default=False),
    ] = None
    grammar: Annotated[
        Path | None,
        typer.Option("--grammar", help="A grammar in Lark's notation that answers are held to.", show_default=False),
    ] = None
    max_tokens: MaxTokens = None
    seed: Annotated[int | None, typer.Option("--seed", show_default=False)] = None

    def sampling(self) -> Sampling:
        """The same as engines take it. Raises as `constraint` does."""
        from edgeship.engine.api import Sampling

        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            max_tokens=self.max_tokens,
            seed=self.seed,
            stop=tuple(self.stop or ()),
            constraint=self.constraint(),
        )

    def constraint(self) -> Constraint | None:
        """What answers are held to. Raises UsageError for more than one, ConstraintInvalid for what is no text."""
        from edgeship.engine.api import Constraint
        from edgeship.engine.response_format import schema_constraint

        if sum(given is not None for given in (self.schema, self.regex, self.grammar)) > 1:
            raise UsageError("--schema, --regex and --grammar exclude each other", hint="Give one of them.")
        if self.schema is not None:
            return schema_constraint(_text(self.schema))
        if self.grammar is not None:
            return Constraint("lark", _text(self.grammar))
        return None if self.regex is None else Constraint("regex", self.regex)


@grouped
def run(
    *,
    name: RunArgument,
    prompt: Prompt = None,
    system: System = None,
    options: AnswerOptions,
    stats: Stats = False,
    model: ServerModel = None,
    api_key_env: KeyVariable = None,
    cache_dir: CacheDir = None,
    threads: Threads = None,
    as_json: Json = False,
) -> int:
    """Chat with a model, or ask it once."""
    from edgeship import targets

    sampling = options.sampling()
    target = targets.resolve(name, settings.resolve(cache_dir=cache_dir, threads=threads))
    key = _key(api_key_env)
    return answer(target, prompt, sampling, system=system, stats=stats, as_json=as_json, model=model, api_key=key)


def answer(
    target: Target,
    prompt: str | None,
    sampling: Sampling,
    *,
    system: str | None,
    stats: bool,
    as_json: bool,
    model: str | None = None,
    api_key: str | None = None,
) -> int:
    """Answers the prompt, or what is piped in, once; chats where neither is given."""
    from edgeship.cli import chat
    from edgeship.engine.api import Limits

    if prompt is None and not sys.stdin.isatty():
        prompt = _piped()
    if prompt is None and as_json:
        raise UsageError("--json needs a prompt", hint='edgeship model run NAME "your prompt" --json')
    with target.open(limits=Limits(slots=1), model=model, api_key=api_key) as opened:
        if opened.note:
            print(f"note: {opened.note}", file=sys.stderr)
        if prompt is None:
            return chat.chat(opened, sampling, system=system)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        return chat.answer_once(opened, messages, sampling, as_json=as_json, stats=stats)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        # The key itself may stand there by mistake, and is not to be shown.
        named = f"variable {variable}" if variable.isidentifier() else "variable that is named"
        raise UsageError(f"the environment {named} is not set", hint="Give --api-key-env the name of a variable.")
    return key


def _text(path: Path) -> str:
    try:
        return foreign.read_text(path, named=True)
    except (OSError, ValueError) as error:
        raise ConstraintInvalid(f"it cannot be read: {error}", where=str(path)) from error


def _piped() -> str:
    # Bytes and not text: the platform's encoding need not be UTF-8.
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"what was piped in is not UTF-8: {error}") from error
    if not text.strip():
        raise UsageError("nothing was piped in", hint='Give a prompt: edgeship model run NAME "your prompt"')
    return text.rstrip("\r\n")
