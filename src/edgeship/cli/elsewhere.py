"""The words of Ollama, Foundry Local and Olive: those with a command here work, the others point to what to type."""

from __future__ import annotations

from collections.abc import Callable

import typer

from edgeship.cli import build, cache, model, model_info, model_run
from edgeship.errors import UsageError

_SAME: dict[str, Callable[..., int]] = {
    "run": model_run.run,
    "chat": model_run.run,
    "ls": model.ls,
    "list": model.ls,
    "show": model_info.info,
    "info": model_info.info,
    "rm": cache.rm,
    "auto-opt": build.build,
}
_POINTERS = {
    "pull": "`edgeship ship ORG/NAME` fetches a checkpoint from the Hub, builds it, measures it and installs it.",
    "create": "`edgeship build CHECKPOINT` makes a package, and `edgeship cache add FOLDER` installs it.",
    "ps": "A model is loaded by the command that runs it and by nothing else; `edgeship model ls` lists what is there.",
    "stop": "A model ends with the command that runs it.",
    "serve": "`edgeship foundry register NAME` makes a package a model of Foundry Local, which can serve it.",
    "push": "A package is a folder: copy it, and install it elsewhere with `edgeship cache add FOLDER`.",
    "convert": "`edgeship build CHECKPOINT` converts and quantizes.",
    "quantize": "`edgeship build CHECKPOINT --precision int4` converts and quantizes.",
    "optimize": "`edgeship build CHECKPOINT --precision int4` converts and quantizes.",
    "capture-onnx-graph": "`edgeship build CHECKPOINT --precision fp32` converts.",
    "finetune": "Edgeship takes what is fine-tuned already: `edgeship ship BASE --adapter FOLDER`.",
}
_ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}


def add_to(app: typer.Typer, models: typer.Typer, packages: typer.Typer) -> None:
    """Adds the words to the program and to its groups `model` and `cache`, without listing them."""
    for word, command in _SAME.items():
        app.command(word, hidden=True)(command)
    for word, hint in _POINTERS.items():
        app.command(word, hidden=True, context_settings=_ANY_WORDS)(_pointer(word, hint))
    models.command("list", hidden=True)(model.ls)
    models.command("show", hidden=True)(model_info.info)
    models.command("rm", hidden=True)(cache.rm)
    models.command("download", hidden=True, context_settings=_ANY_WORDS)(_pointer("model download", _POINTERS["pull"]))
    packages.command("list", hidden=True)(cache.ls)
    packages.command("remove", hidden=True)(cache.rm)


def _pointer(word: str, hint: str) -> Callable[[], None]:
    def point() -> None:
        raise UsageError(f"there is no command {word!r}", hint=hint)

    return point
