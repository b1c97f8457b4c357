"""The options that commands share, alone and in groups.

Commands are imported to print `--help`, so nothing here and at the head of a command's module may be slow to import.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from edgeship.errors import UsageError
from edgeship.system import foreign

if TYPE_CHECKING:
    from edgeship.checkpoint import Checkpoint


class RecipeName(StrEnum):
    """--precision: the names of edgeship.recipe.RECIPES, which is slow to import."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"
    INT4_SMALL = "int4-small"
    INT4_FAST = "int4-fast"


def as_path(text: str) -> Path:
    """What an option names. No text would mean the working folder, as a variable that is not set would."""
    if not text:
        raise typer.BadParameter("it is empty; the working folder is '.'")
    try:
        return foreign.named_path(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


MethodName = Literal["rtn", "search", "feedback", "k_quant"]
BuilderName = Literal["auto", "stream", "genai", "olive"]

FP32_BITS = 32

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]

CacheDir = Annotated[
    Path | None,
    typer.Option("--cache-dir", help="Use this cache folder for this command.", show_default=False, parser=as_path),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Cores to use; all that the machine grants by default.", show_default=False),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", help="Plan for a machine with this much memory, e.g. 8GB.", show_default=False),
]
CheckpointArgument = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="A folder, or a Hub id: org/name or org/name@revision.")
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        "--adapter",
        "--adapter_path",
        help="A LoRA adapter to merge: a folder, or a Hub id.",
        show_default=False,
        parser=as_path,
    ),
]
TemplateVariables = Annotated[
    list[str] | None,
    typer.Option(
        "--template-var",
        metavar="NAME=VALUE",
        help="A variable for the chat template, e.g. enable_thinking=false: JSON, else a text. Can be repeated.",
        show_default=False,
    ),
]
ForceResources = Annotated[
    bool, typer.Option("--force-resources", help="Go on although memory or disk look too small.")
]
Reference = Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="A package in the cache.")]
TARGET = typer.Argument(
    metavar="TARGET",
    help="A package in the cache, or its folder; foundry:NAME; the URL of any server with an API like OpenAI's.",
    show_default=False,
)
"""What a command that asks a target takes; docs/targets.md says more."""
PackageArgument = Annotated[
    str, typer.Argument(metavar="NAME[:VERSION]", help="A package in the cache, or its folder.")
]
Prompt = Annotated[
    list[str] | None, typer.Argument(metavar="[PROMPT]", help="Answer this once, with what is piped in after it.")
]
System = Annotated[str | None, typer.Option("--system", help="A system message.", show_default=False)]
Temperature = Annotated[float | None, typer.Option("--temperature", show_default="the package's")]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", help="New tokens at most.", show_default="what the context holds")
]
Schema = Annotated[
    str | None,
    typer.Option(
        "--schema",
        help="A JSON schema that answers are held to, in its order of properties: a file, or JSON.",
        show_default=False,
    ),
]
Context = Annotated[
    int | None,
    typer.Option(
        "--context",
        min=16,
        help="Tokens of prompt and answer together.",
        show_default="the package's, as memory allows",
    ),
]
KvMemory = Annotated[
    str | None,
    typer.Option(
        "--kv-memory",
        help="Memory for keys and values, e.g. 2GB: it bounds the context.",
        show_default="a quarter of what is free",
    ),
]
Stats = Annotated[bool, typer.Option("--stats", help="Print tokens and speed on stderr.")]


def grouped(command: Callable[..., int]) -> Callable[..., int]:
    """The command with its groups of options taken apart, as typer wants them.

    A parameter whose type is a dataclass is a group: each field is an option, and the command gets them as one value.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _field_parameters(groups[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name]))

    @functools.wraps(command)
    def call(**given: Any) -> int:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return command(**given)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def _field_parameters(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(group)
    ]


def read_variables(given: list[str] | None) -> dict[str, Any]:
    """What --template-var says: a JSON value, and else a text. Raises UsageError."""
    variables: dict[str, Any] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--template-var {text!r} has no value", hint="Write NAME=VALUE.")
        if name in variables:
            raise UsageError(f"--template-var says {name!r} twice", hint="Give one of them.")
        variables[name] = _json_or_text(value)
    return variables


def _json_or_text(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text


@dataclass(frozen=True)
class ServerOptions:
    """What a target that is a URL needs besides."""

    model: Annotated[
        str | None,
        typer.Option("--model", help="For a URL: which of the server's models.", show_default="its only one"),
    ] = None
    api_key_env: Annotated[
        str | None,
        typer.Option(
            "--api-key-env",
            metavar="VARIABLE",
            help="For a URL: the environment variable that holds the server's key.",
            show_default=False,
        ),
    ] = None

    @property
    def api_key(self) -> str | None:
        """The key that the environment variable holds. Raises UsageError where it is not set."""
        variable = self.api_key_env
        if variable is None:
            return None
        key = os.environ.get(variable)
        if not key:
            # The key itself may stand there by mistake, and is not to be shown.
            named = f"variable {variable}" if variable.isidentifier() else "variable that is named"
            raise UsageError(f"the environment {named} is not set", hint="Give --api-key-env the name of a variable.")
        return key


@dataclass(frozen=True)
class CheckpointOptions:
    """How a checkpoint is to be read."""

    adapter: Adapter = None
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="The Hub revision: a commit, branch or tag.", show_default=False),
    ] = None
    chat_template: Annotated[
        Path | None,
        typer.Option(
            "--chat-template",
            help="A Jinja file to use as chat template, or the name of one.",
            show_default=False,
            parser=as_path,
        ),
    ] = None
    template_var: TemplateVariables = None
    allow_pickle: Annotated[
        bool,
        typer.Option("--allow-pickle", help="Read pickle weights, which can run code. Only for sources you trust."),
    ] = False

    def open(self, checkpoint: str) -> Checkpoint:
        """The checkpoint, checked. Raises what `open_checkpoint` raises."""
        from edgeship.checkpoint import open_checkpoint

        return open_checkpoint(
            checkpoint,
            adapter=self.adapter,
            revision=self.revision,
            chat_template=self.chat_template,
            variables=read_variables(self.template_var),
            allow_pickle=self.allow_pickle,
        )


@dataclass(frozen=True)
class RecipeOptions:
    """What to change of a recipe; None where an option was not given."""

    block_size: Annotated[
        int | None,
        typer.Option(
            "--block-size", help="Weights that share a scale: 16, 32, 64, 128 or 256.", show_default="the recipe's"
        ),
    ] = None
    asymmetric: Annotated[bool, typer.Option("--asymmetric", help="Quantize with zero points.")] = False
    method: Annotated[
        MethodName | None,
        typer.Option("--method", help="How a block of weights is rounded.", show_default="the builder's"),
    ] = None
    bits: Annotated[
        float | None,
        typer.Option(
            "--bits",
            help="INT4 with some matrices at 8 bits, so that a weight takes this many on average, scales included.",
            show_default="the recipe's",
        ),
    ] = None
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", help="The same as a part of FP32's size: 0.15 means --bits 4.8.", show_default="the recipe's"
        ),
    ] = None
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            help="Texts that show what the model will read: JSON Lines as --eval takes them, or plain text.",
            show_default="built-in texts",
            parser=as_path,
        ),
    ] = None
    no_calibrate: Annotated[
        bool, typer.Option("--no-calibrate", help="Round weights by themselves, and not as texts show.")
    ] = False
    builder: Annotated[
        BuilderName | None,
        typer.Option(
            "--builder",
            help="Who converts: stream, or genai for architectures that it does not know.",
            show_default="auto",
        ),
    ] = None

    def changes(self) -> dict[str, Any]:
        """The fields of a Recipe that were given. Raises UsageError where two of them contradict each other."""
        if self.bits is not None and self.budget is not None:
            raise UsageError("--bits and --budget are both given", hint="A budget of 0.15 is 4.8 bits: give one.")
        if self.no_calibrate and self.calibrate is not None:
            raise UsageError("--calibrate and --no-calibrate are both given", hint="Give one of them.")
        given = {
            "block_size": self.block_size,
            "symmetric": False if self.asymmetric else None,
            "method": self.method,
            "bits": FP32_BITS * self.budget if self.budget is not None else self.bits,
            "calibrate": False if self.no_calibrate else None,
            "calibration": self.calibrate,
            "builder": self.builder,
        }
        return {key: value for key, value in given.items() if value is not None}
