"""`edgeship model run`: a chat, or one answer."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeship import settings
from edgeship.cli.options import (
    CacheDir,
    Context,
    Json,
    KvMemory,
    MaxTokens,
    Prompt,
    Schema,
    ServerOptions,
    Stats,
    System,
    Temperature,
    TemplateVariables,
    Threads,
    as_path,
    grouped,
    read_variables,
)
from edgeship.cli.output import note
from edgeship.cli.streams import piped_text
from edgeship.errors import ConstraintInvalid, UsageError
from edgeship.system import foreign

if TYPE_CHECKING:
    from edgeship.engine.api import Chat, Constraint, Limits, Message, Sampling
    from edgeship.targets import Target

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:VERSION]",
        help="A package in the cache, or its folder; foundry:NAME runs what is registered there in Foundry Local; "
        "a URL asks a server.",
    ),
]
Tools = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        help="A JSON file with a list of functions that the model may call, as OpenAI describes them.",
        show_default=False,
        parser=as_path,
    ),
]
ToolChoice = Annotated[
    str, typer.Option("--tool-choice", help="auto, none, required, or the name of the function that must be called.")
]

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


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
        typer.Option("--stop", help="A text that ends the answer, \\n for a line break.", show_default=False),
    ] = None
    schema: Schema = None
    schema_lenient: Annotated[
        bool,
        typer.Option(
            "--schema-lenient", help="Leave out, and name, what of a schema cannot be enforced, instead of refusing it."
        ),
    ] = False
    regex: Annotated[
        str | None,
        typer.Option("--regex", help="A regular expression that answers are held to.", show_default=False),
    ] = None
    grammar: Annotated[
        Path | None,
        typer.Option(
            "--grammar",
            help="A grammar that answers are held to, in Lark's notation or GBNF.",
            show_default=False,
            parser=as_path,
        ),
    ] = None
    max_tokens: MaxTokens = None
    thinking_tokens: Annotated[
        int | None,
        typer.Option("--thinking-tokens", help="Tokens of what a model thinks first, at most.", show_default="any"),
    ] = None
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
            thinking_tokens=self.thinking_tokens,
            seed=self.seed,
            stop=tuple(map(_unescaped, self.stop or ())),
            constraint=self.constraint(),
        )

    def constraint(self) -> Constraint | None:
        """What answers are held to. Raises UsageError for more than one, ConstraintInvalid for what is faulty."""
        from edgeship.engine.grammar import require_usable

        held = self._given()
        if held is not None:
            # Leniently: what can be enforced is for the target to say, and a server may enforce more.
            require_usable(replace(held, lenient=True))
        return held

    def _given(self) -> Constraint | None:
        from edgeship.engine.api import Constraint
        from edgeship.engine.grammar import lark
        from edgeship.engine.response_format import schema_constraint

        if sum(given is not None for given in (self.schema, self.regex, self.grammar)) > 1:
            raise UsageError("--schema, --regex and --grammar exclude each other", hint="Give one of them.")
        if self.schema is not None:
            inline = self.schema.lstrip().startswith("{") or self.schema.strip() in ("true", "false")
            held = schema_constraint(
                self.schema
                if inline
                else _text(Path(self.schema), "Give a regular file, or a schema itself, which begins with {.")
            )
            return held and replace(held, lenient=self.schema_lenient)
        if self.grammar is not None:
            return Constraint("lark", lark(_text(self.grammar, "Give a regular file with the grammar in it.")))
        return None if self.regex is None else Constraint("regex", self.regex)


@grouped
def run(
    *,
    name: RunArgument,
    prompt: Prompt = None,
    system: System = None,
    template_var: TemplateVariables = None,
    tools: Tools = None,
    tool_choice: ToolChoice = "auto",
    options: AnswerOptions,
    context: Context = None,
    kv_memory: KvMemory = None,
    stats: Stats = False,
    server: ServerOptions,
    cache_dir: CacheDir = None,
    threads: Threads = None,
    as_json: Json = False,
) -> int:
    """Chat with a model, or ask it once."""
    from edgeship import targets

    sampling = options.sampling()
    target = targets.resolve(name, settings.resolve(cache_dir=cache_dir, threads=threads))
    key = server.api_key
    limits = _limits(context, kv_memory, target)
    return answer(
        target,
        prompt,
        sampling,
        limits,
        system=system,
        variables=read_variables(template_var),
        tools=_read_tools(tools),
        tool_choice=tool_choice,
        stats=stats,
        as_json=as_json,
        model=server.model,
        api_key=key,
    )


def _read_tools(path: Path | None) -> list[Any]:
    """What --tools names. Raises UsageError for what is no list in JSON; the conversation looks at the rest."""
    from edgeship.system import json_file

    if path is None:
        return []
    hint = 'Write [{"type": "function", "function": {"name": ..., "description": ..., "parameters": SCHEMA}}].'
    try:
        found = json_file.parse(foreign.read_text(path, named=True))
    except (OSError, ValueError) as error:
        raise UsageError(f"the tools cannot be read: {error}", where=str(path), hint=hint) from error
    if not isinstance(found, list):
        raise UsageError("the tools are no list", where=str(path), hint=hint)
    return found


def _limits(context: int | None, kv_memory: str | None, target: Target) -> Limits:
    from edgeship.engine.api import Limits

    if target.kind == "url" and (context or kv_memory):
        raise UsageError("a server decides on its context and memory", hint="Leave --context and --kv-memory out.")
    kv_bytes = None if kv_memory is None else settings.parse_bytes(kv_memory, "--kv-memory")
    return Limits(slots=1, context_tokens=context, kv_bytes=kv_bytes)


def answer(
    target: Target,
    words: Sequence[str] | None,
    sampling: Sampling,
    limits: Limits,
    *,
    system: str | None,
    stats: bool,
    as_json: bool,
    variables: Mapping[str, Any] = MappingProxyType({}),
    tools: Sequence[Mapping[str, Any]] = (),
    tool_choice: str = "auto",
    model: str | None = None,
    api_key: str | None = None,
) -> int:
    """Answers the prompt and what is piped in, once; chats where neither is given."""
    from edgeship.cli import chat
    from edgeship.package.conversation import Conversation, tool_fields

    prompt = _whole_prompt(" ".join(words) if words else None)
    if prompt is None and as_json:
        raise UsageError("--json needs a prompt", hint='Write `edgeship model run NAME "your prompt" --json`.')
    if prompt is None and tools:
        raise UsageError(
            "--tools needs a prompt: in a chat nobody would answer the calls",
            hint='Write `edgeship model run NAME "your prompt" --tools FILE`.',
        )
    with target.open(limits=limits, model=model, api_key=api_key) as opened:
        if opened.note:
            note(f"note: {opened.note}")
        if limits.context_tokens and (opened.context_tokens or limits.context_tokens) < limits.context_tokens:
            note(f"note: the model takes {opened.context_tokens:,} tokens, and no --context makes that more")
        if idle := _without_effect(sampling, opened):
            note(f"note: the answer is greedy, so {', '.join(idle)} will do nothing; --temperature 0.7 samples")
        if lost := _left_out(sampling.constraint):
            note(f"note: not enforced, so check the answer for it: {lost}")
        if system and (remark := chat.where_instructions_go(opened, system)):
            note(f"note: {remark}")
        if prompt is None:
            return chat.chat(opened, sampling, system=system, variables=variables)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        conversation = Conversation(messages, variables=variables, **tool_fields(tools, tool_choice))
        return chat.answer_once(opened, conversation, sampling, as_json=as_json, stats=stats)


def _without_effect(sampling: Sampling, model: Chat) -> list[str]:
    """The options that were given and mean nothing where the likeliest token is always taken."""
    if sampling.over(model.defaults).temperature != 0:
        return []
    given = {"--top-k": sampling.top_k, "--top-p": sampling.top_p, "--min-p": sampling.min_p, "--seed": sampling.seed}
    return [option for option, value in given.items() if value is not None]


def _left_out(constraint: Constraint | None) -> str:
    """What of a schema answers are not held to."""
    from edgeship.engine import json_schema

    if constraint is None or not constraint.lenient or constraint.kind != "json_schema":
        return ""
    with suppress(ValueError):  # whoever is asked says what is wrong with it
        return json_schema.listed(json_schema.read(constraint.text)[1])
    return ""


def _unescaped(text: str) -> str:
    r"""A text with \n, \t, \r and \\ in it as what they stand for: shells do not write line breaks easily."""
    return re.sub(r"\\([ntr\\])", lambda found: _ESCAPES[found[1]], text)


def _text(path: Path, hint: str) -> str:
    try:
        return foreign.read_text(path, named=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConstraintInvalid(f"the file cannot be read: {reason}", where=str(path), hint=hint) from error


def _whole_prompt(prompt: str | None) -> str | None:
    """The prompt, and after it what is piped in; None where a person sits at the terminal and gave no prompt."""
    piped = piped_text()
    if prompt is not None and piped.strip():
        return f"{prompt}\n\n{piped}"
    if prompt is None and not sys.stdin.isatty():
        if not piped.strip():
            raise UsageError("nothing was piped in", hint='Give a prompt: `edgeship model run NAME "your prompt"`.')
        return piped
    return prompt
