"""The options that commands share, and the names that some of them take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

# Enumerations and option types stand here and not beside the code they configure, because typer reads them when it
# starts and that code is only imported when its command runs.


class RecipeName(StrEnum):
    """--precision: the names of edgeship.recipe.RECIPES."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"
    INT4_SMALL = "int4-small"
    INT4_BALANCED = "int4-balanced"
    INT4_BEST = "int4-best"


CANDIDATES = (RecipeName.FP32, RecipeName.FP16, RecipeName.INT8, RecipeName.INT4)
"""What `ship` measures by default."""


class MethodName(StrEnum):
    """--method."""

    RTN = "rtn"
    SEARCH = "search"
    FEEDBACK = "feedback"
    K_QUANT = "k_quant"


class BuilderName(StrEnum):
    """--builder."""

    AUTO = "auto"
    STREAM = "stream"
    GENAI = "genai"
    OLIVE = "olive"


class ReferenceName(StrEnum):
    """--reference."""

    AUTO = "auto"
    TRANSFORMERS = "transformers"
    FP32 = "fp32"


class LogLevel(StrEnum):
    """--log_level, with the numbers that Olive takes."""

    DEBUG = "0"
    INFO = "1"
    WARNING = "2"
    ERROR = "3"
    CRITICAL = "4"


Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
CacheDir = Annotated[
    Path | None,
    typer.Option("--cache-dir", help="Use this cache folder for this command.", show_default=False),
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
    typer.Option("--adapter", "--adapter_path", help="A LoRA adapter folder to merge.", show_default=False),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", help="The Hub revision: a commit, branch or tag.", show_default=False),
]
ChatTemplate = Annotated[
    Path | None,
    typer.Option("--chat-template", help="A Jinja file to use as chat template.", show_default=False),
]
AllowPickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Read pickle weights, which can run code. Only for sources you trust."),
]
BlockSize = Annotated[
    int | None,
    typer.Option(
        "--block-size", help="Weights that share a scale: 16, 32, 64, 128 or 256.", show_default="the recipe's"
    ),
]
Asymmetric = Annotated[bool, typer.Option("--asymmetric", help="Quantize with zero points.")]
Method = Annotated[
    MethodName | None,
    typer.Option("--method", help="How a block of weights is rounded.", show_default="the builder's"),
]
Bits = Annotated[
    float | None,
    typer.Option(
        "--bits",
        help="INT4 with some matrices at 8 bits, so that a weight takes this many on average, scales included.",
        show_default="the recipe's",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget", help="The same as a part of FP32's size: 0.15 means --bits 4.8.", show_default="the recipe's"
    ),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        help="Texts that show what the model will read: JSON Lines as --eval takes them, or plain text.",
        show_default=False,
    ),
]
Builder = Annotated[
    BuilderName | None,
    typer.Option(
        "--builder", help="Who converts: stream, or genai for architectures that it does not know.", show_default="auto"
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Go on although memory or disk look too small.")]
Reference = Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="A package in the cache.")]
OptionalReference = Annotated[
    str | None, typer.Argument(metavar="[NAME[:VERSION]]", help="A package in the cache; all by default.")
]
PackageArgument = Annotated[
    str, typer.Argument(metavar="NAME[:VERSION]", help="A package in the cache, or its folder.")
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:VERSION]",
        help="A package in the cache, or its folder; foundry:NAME runs what is registered there in Foundry Local.",
    ),
]
Prompt = Annotated[str | None, typer.Argument(help="Answer this once; without it, a chat.")]
System = Annotated[str | None, typer.Option("--system", help="A system message.", show_default=False)]
Temperature = Annotated[float | None, typer.Option("--temperature", show_default="the package's")]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", help="New tokens at most.", show_default="what the context holds")
]
Schema = Annotated[
    Path | None, typer.Option("--schema", help="A JSON schema that answers are held to.", show_default=False)
]
Stats = Annotated[bool, typer.Option("--stats", help="Print tokens and speed on stderr.")]
FoundryApp = Annotated[
    str | None,
    typer.Option(
        "--app", help="The application whose models are meant: its app_name for the SDK.", show_default="edgeship"
    ),
]
FoundryCacheDir = Annotated[
    Path | None,
    typer.Option(
        "--foundry-cache-dir",
        help="Foundry Local's own model cache, where the application sets model_cache_dir.",
        show_default="~/.APP/cache/models",
    ),
]
Registration = Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="A model registered in Foundry Local.")]
ForeignName = Annotated[str | None, typer.Option("--name", help="Another name than the package's.", show_default=False)]
