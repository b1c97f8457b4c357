"""Where a checkpoint and its adapter lie: a folder, a training run's latest checkpoint, or a model on the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeship.checkpoint.dimensions import DAMAGED
from edgeship.checkpoint.quantized import plain_copy
from edgeship.checkpoint.weight_files import GGUF
from edgeship.errors import CheckpointInvalid, CheckpointNotFound, HubFailed, NameInvalid, UsageError
from edgeship.progress import Progress, silent
from edgeship.system import foreign, json_file
from edgeship.system.shell import our_command

CONFIG_NAME, ADAPTER_NAME = "config.json", "adapter_config.json"
_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*)(@(?P<revision>[^@\s]+))?", re.ASCII)
_RUN = re.compile(r"checkpoint-([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True)
class Place:
    """A folder. name: what is made of it is called so by default. commit: the Hub's. notes: how it was found."""

    folder: Path
    name: str
    commit: str | None = None
    notes: tuple[str, ...] = ()


def find_checkpoint(
    source: str, revision: str | None = None, *, allow_pickle: bool = False, progress: Progress = silent
) -> Place:
    """The folder that a path or a Hub id means; a path that exists wins.

    Raises CheckpointNotFound, HubFailed, PickleRefused, CheckpointInvalid for a file, UsageError for two revisions.
    """
    try:
        path = foreign.named_path(source)
    except ValueError as error:
        raise CheckpointNotFound(
            f"there is no folder {source!r}: {error}", hint="Give a folder, or a Hub id like org/name."
        ) from error
    if foreign.is_folder(path):
        if revision is not None:
            raise UsageError(
                f"{source!r} is a folder and has no revision {revision!r}",
                hint="Leave --revision out, or give a Hub id.",
            )
        return _latest_of_run(path, CONFIG_NAME)
    if foreign.is_file(path):
        raise CheckpointInvalid(
            f"{source!r} is a file",
            where=str(path),
            hint=GGUF if path.suffix.lower() == ".gguf" else "Give the folder that holds config.json and the weights.",
        )
    match = _HUB_ID.fullmatch(source)
    if match is None:
        raise CheckpointNotFound(
            f"there is no folder {source!r}",
            where=str(path.absolute()),
            hint="Give a folder, or a Hub id like org/name.",
        )
    if revision and match["revision"] and revision != match["revision"]:
        raise UsageError(f"two revisions are given: {match['revision']!r} and {revision!r}", hint="Give one of them.")
    from edgeship.checkpoint import hub

    try:
        folder, commit = hub.fetch(
            match["repo"], revision or match["revision"], allow_pickle=allow_pickle, progress=progress
        )
    except (CheckpointNotFound, HubFailed) as error:
        raise type(error)(
            f"there is no folder {source!r} here, and {error.what}", where=error.where, hint=error.hint
        ) from error
    return Place(folder, package_name(match["repo"].partition("/")[2]), commit)


def find_adapter(source: Path, progress: Progress = silent) -> Place:
    """The same for an adapter; a folder that is not there is left to who opens it.

    Raises CheckpointNotFound, HubFailed.
    """
    match = _HUB_ID.fullmatch(source.as_posix())
    if match is None or foreign.is_folder(source) or foreign.is_file(source):
        return _latest_of_run(source, ADAPTER_NAME)
    from edgeship.checkpoint import hub

    try:
        folder, commit = hub.fetch(match["repo"], match["revision"], progress=progress)
    except (CheckpointNotFound, HubFailed) as error:
        raise type(error)(
            f"there is no adapter folder {str(source)!r} here, and {error.what}", where=error.where, hint=error.hint
        ) from error
    return Place(folder, match["repo"].partition("/")[2], commit)


def _latest_of_run(folder: Path, file: str) -> Place:
    """The folder, or the latest checkpoint in it where it is a training run's that holds no such file itself."""
    if not foreign.is_folder(folder):
        return Place(folder, package_name(folder.name))
    name = package_name(folder.resolve().name)
    runs = [] if (folder / file).is_file() else list(folder.glob(f"checkpoint-*/{file}"))
    steps = {int(match[1]): path.parent for path in runs if (match := _RUN.fullmatch(path.parent.name))}
    if not steps:
        return Place(folder, name)
    latest = steps[max(steps)]
    return Place(latest, name, notes=(f"of the checkpoints in {folder} the latest is used: {latest.name}",))


def package_name(text: str) -> str:
    """A name that a package can have, made of any text."""
    from edgeship.package.names import check_name

    cleaned = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._-]+", "-", text)).lstrip("._-")[:90].rstrip("._-")
    try:
        return check_name(cleaned)
    except NameInvalid:
        return f"model-{cleaned}" if cleaned else "model"


def adapter_hint(folder: Path) -> str | None:
    """For a folder that is an adapter: what to type instead."""
    path = folder / ADAPTER_NAME
    if not path.is_file():
        return None
    base = json_file.read_fields(path, DAMAGED).text("base_model_name_or_path")
    if not base:
        return f"This is a LoRA adapter. Give its base first: {_with_adapter('BASE', folder)}"
    places = (Path.cwd(), *folder.absolute().parents)
    found = next((place / base for place in places if foreign.is_file(place / base / CONFIG_NAME)), None)
    plain = plain_copy(base)
    if found is None and plain != base:
        return (
            f"This is a LoRA adapter, trained on the quantized {base}. Give that base, whose weights are dequantized "
            f"first, or as it was before, presumably {plain}: {_with_adapter(base, folder)}"
        )
    return f"This is a LoRA adapter. Give its base first: {_with_adapter(str(found or base), folder)}"


def _with_adapter(base: str, folder: Path) -> str:
    shipped = our_command("ship", base, "--adapter", str(folder))
    return f"`{shipped}`; inspect and build take them alike."
