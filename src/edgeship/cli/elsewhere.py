"""The words of Ollama, llama.cpp, Foundry Local, Olive and others: some work here, the rest point to what to type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from edgeship.cli import build, cache, foundry, model, model_info, model_run
from edgeship.errors import UsageError

Command = Callable[..., Any]

_ON_PACKAGES: Mapping[str, Command] = {
    **dict.fromkeys(("ls", "list", "models", "images"), model.ls),
    **dict.fromkeys(("show", "info", "describe", "inspect"), model_info.info),
    **dict.fromkeys(("run", "chat"), model_run.run),
    **dict.fromkeys(("rm", "rmi", "remove", "delete"), cache.rm),
    "verify": cache.verify,
}
_IN_FOUNDRY: Mapping[str, Command] = {
    "list": foundry.ls,
    "chat": foundry.run,
    **dict.fromkeys(("rm", "remove", "delete"), foundry.unregister),
}
_FROM_THE_HUB = "`edgeship ship ORG/NAME` fetches a checkpoint from the Hub, builds it, measures it and installs it."
_INSTALL = f"`edgeship cache add FOLDER` installs a package. {_FROM_THE_HUB}"
_ASK = '`edgeship model run NAME` chats with a model, and `edgeship model run NAME "PROMPT"` asks it once.'
_LOADED = (
    "A model is loaded by the command that runs it, or by `edgeship serve` when it is asked for; `edgeship ps` lists "
    "the servers with the models that they have loaded."
)
_SERVE = "`edgeship serve NAME` answers over HTTP; `edgeship ps` lists the servers that run, `edgeship stop` ends one."
_CONVERT = "`edgeship build CHECKPOINT --precision int4` converts and quantizes."
_MEASURE = (
    "`edgeship ship CHECKPOINT --eval FILE` measures quality, speed and memory of every candidate; "
    "`edgeship model info NAME` shows what was measured."
)
_SPEED = (
    "`edgeship bench TARGET` measures how fast a target answers; `edgeship tune NAME` finds what is fastest on this "
    "machine."
)
_ACCOUNT = "Edgeship has no accounts. For models on the Hub that want one: `hf auth login`, or the variable HF_TOKEN."
_FIND = "There is no search: see https://huggingface.co/models, and `edgeship inspect ORG/NAME` for what one needs."
_COPY = "A package is a folder: copy it, and install it elsewhere with `edgeship cache add FOLDER`."
_TRAIN = "Edgeship takes what is fine-tuned already: `edgeship ship BASE --adapter FOLDER`."
_SETTINGS = "`edgeship config` shows the settings, and `edgeship config set KEY VALUE` changes one."
_POINTERS: Mapping[str, str] = {
    **dict.fromkeys(("pull", "download", "fetch", "get"), _FROM_THE_HUB),
    **dict.fromkeys(("install", "add", "import"), _INSTALL),
    "create": "`edgeship build CHECKPOINT` makes a package, and `edgeship cache add FOLDER` installs it.",
    **dict.fromkeys(("ask", "generate", "complete", "prompt", "exec", "cli", "completion"), _ASK),
    **dict.fromkeys(("load", "unload", "start"), _LOADED),
    **dict.fromkeys(("server", "api", "service", "ui", "web"), _SERVE),
    **dict.fromkeys(("convert", "quantize", "optimize", "quant"), _CONVERT),
    "capture-onnx-graph": "`edgeship build CHECKPOINT --precision fp32` converts.",
    **dict.fromkeys(("evaluate", "test"), "`edgeship eval TARGET --eval FILE` asks the cases of a file."),
    **dict.fromkeys(("measure", "perplexity"), _MEASURE),
    **dict.fromkeys(("benchmark", "profile"), _SPEED),
    **dict.fromkeys(("keys", "token", "tokens"), "`edgeship key add NAME --file FILE` makes a key for a server."),
    **dict.fromkeys(("login", "logout", "signin", "signout", "auth", "whoami"), _ACCOUNT),
    "search": _FIND,
    **dict.fromkeys(("push", "upload", "export", "save", "package", "publish"), _COPY),
    **dict.fromkeys(
        ("cp", "copy", "tag", "rename", "mv"),
        "`edgeship cache add FOLDER --name NEW` installs a package under another name.",
    ),
    **dict.fromkeys(("train", "finetune", "fine-tune", "lora"), _TRAIN),
    **dict.fromkeys(("merge", "fuse"), "`edgeship ship BASE --adapter FOLDER` merges a LoRA adapter into its base."),
    **dict.fromkeys(("settings", "env", "set"), _SETTINGS),
    **dict.fromkeys(
        ("prune", "clean", "gc"),
        "`edgeship cache gc` removes what builds keep, and `edgeship cache rm NAME` a package.",
    ),
    **dict.fromkeys(
        ("check", "status", "system", "setup", "init"), "`edgeship doctor` says what this machine can build and run."
    ),
    **dict.fromkeys(("logs", "log"), "`edgeship --log-level info model run NAME` logs what is done to stderr."),
    **dict.fromkeys(("update", "upgrade"), "`pip install --upgrade edgeship` brings the newest version."),
    **dict.fromkeys(
        ("embed", "embeddings", "embedding", "rerank"),
        "Edgeship runs models that write texts; there is no command for vectors yet.",
    ),
}
_OF_CONFIG: Mapping[str, str] = dict.fromkeys(("ls", "list", "show", "get", "edit"), _SETTINGS)
_OF_FOUNDRY: Mapping[str, str] = dict.fromkeys(
    ("add", "install", "import", "load"), "`edgeship foundry register NAME` registers a package."
)
_MODEL = "The model stands without an option: `edgeship serve NAME`."
_CONTEXT = "`--context TOKENS` sets how long prompt and answer may be together."
_SLOTS = "`--slots N` sets how many answers a model makes side by side."
_CPU = "Packages run on the CPU; `--memory SIZE` bounds what all models hold."
_BUILT = "What a model's weights are is decided when it is built: `edgeship build --precision int4`."
_TEMPLATE = "The chat template is the package's, and says how calls and thoughts are written."
_KEYS = "`edgeship key add NAME --file FILE` makes a key, and `--api-key-file FILE` asks for one."
_OF_SERVE: Mapping[str, str] = {
    **dict.fromkeys(("-m", "--model", "--model-path"), _MODEL),
    **dict.fromkeys(("-c", "--ctx-size", "--max-model-len", "--num-ctx", "--context-length"), _CONTEXT),
    **dict.fromkeys(("-np", "--parallel", "--max-num-seqs", "--num-parallel"), _SLOTS),
    "-n": f"For -np: {_SLOTS} For -ngl: {_CPU}",  # which of them was typed, the parser does not tell
    **dict.fromkeys(("-ngl", "--n-gpu-layers", "--gpu-layers", "--gpu-memory-utilization"), _CPU),
    **dict.fromkeys(("-tp", "--tensor-parallel-size", "--device", "--swap-space"), _CPU),
    **dict.fromkeys(("-a", "--served-model-name"), "`--alias ALIAS=NAME` gives a model another name."),
    **dict.fromkeys(("-q", "--quantization", "--dtype", "--load-format"), _BUILT),
    **dict.fromkeys(("--chat-template", "--jinja", "--reasoning-parser", "--reasoning-format"), _TEMPLATE),
    **dict.fromkeys(("--tool-call-parser", "--enable-auto-tool-choice", "--enable-reasoning"), _TEMPLATE),
    "--api-key": _KEYS,
    **dict.fromkeys(("--ssl-certfile", "--ssl-cert-file"), "`--tls-cert FILE` serves HTTPS with this certificate."),
    **dict.fromkeys(("--ssl-keyfile", "--ssl-key-file"), "`--tls-key FILE` is the certificate's key."),
    **dict.fromkeys(("--allowed-origins", "--cors"), "`--cors-origin ORIGIN` lets pages of another origin ask."),
    "--keep-alive": "`--idle-timeout 5m` unloads models that nobody asks for.",
}
"""Options of `serve` as vLLM, llama.cpp's server and Ollama have them."""
_ANY_WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}


def add_to(
    root: typer.Typer, models: typer.Typer, packages: typer.Typer, catalog: typer.Typer, config: typer.Typer
) -> None:
    """Adds the words to the program and to its groups, without listing them; a word that is there already stays."""
    groups = {"foundry ": catalog, "config ": config, "cache ": packages, "model ": models, "": root}
    ours = {word: f"It is `edgeship {path}{word}`." for path, group in groups.items() for word in _words_of(group)}
    pointers = {**ours, **_POINTERS}
    _add(root, {**_ON_PACKAGES, "auto-opt": build.build, "help": _help, "version": _version}, pointers)
    _add(models, _ON_PACKAGES, pointers)
    _add(packages, _ON_PACKAGES, pointers)
    _add(catalog, _IN_FOUNDRY, {**pointers, **_OF_FOUNDRY})
    _add(config, {}, {**ours, **_OF_CONFIG})


def meant_by(option: str, command: str) -> str | None:
    """What to type in place of another tool's option."""
    return _OF_SERVE.get(option) if command == "serve" else None


def _words_of(group: typer.Typer) -> set[str]:
    return {one.name or one.callback.__name__ for one in group.registered_commands if one.callback}


def _add(group: typer.Typer, commands: Mapping[str, Command], pointers: Mapping[str, str]) -> None:
    known = _words_of(group)
    for word in commands.keys() - known:
        group.command(word, hidden=True)(commands[word])
    for word in pointers.keys() - known - commands.keys():
        # Also `pull --help` is told what to type.
        add = group.command(word, hidden=True, context_settings=_ANY_WORDS, add_help_option=False)
        add(_pointer(word, pointers[word]))


def _pointer(word: str, hint: str) -> Callable[[], None]:
    def point() -> None:
        raise UsageError(f"there is no command {word!r}", hint=hint)

    return point


def _help(words: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]")] = None) -> int:
    """Show what a command does."""
    from edgeship.cli import main

    return main([*(words or []), "--help"])


def _version() -> int:
    """Print the version."""
    from edgeship.cli import main

    return main(["--version"])
