"""The Hugging Face Hub: a model repository at a fixed commit, as a folder on this machine."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

from edgeship.checkpoint.folder import PATTERNS, PICKLE_PATTERNS
from edgeship.checkpoint.weight_files import pickle_names, refuse_pickle
from edgeship.errors import CheckpointNotFound, DiskShort, EdgeshipError, HubFailed
from edgeship.progress import Progress, silent
from edgeship.system import telemetry

# Folders hold other formats of the same weights, and consolidated files are the weights once more.
IGNORED = ("*/*", "consolidated*")


def fetch(
    repo_id: str, revision: str | None = None, *, allow_pickle: bool = False, progress: Progress = silent
) -> tuple[Path, str]:
    """Folder and commit of a model: what a build needs of it, downloaded or found in the Hub's own cache.

    Honours HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and the user's token. Calls `progress` from several threads.
    Raises CheckpointNotFound, HubFailed, PickleRefused, DiskShort.
    """
    telemetry.switch_off()
    named = f"{repo_id}@{revision}" if revision else repo_id
    try:
        folder = _download(repo_id, revision, PATTERNS, progress)
        if not any(folder.glob("*.safetensors")):
            pickles = _pickles(repo_id, folder)
            if pickles and not allow_pickle:
                raise refuse_pickle(pickles, named)
            if pickles:
                folder = _download(repo_id, folder.name, PATTERNS + PICKLE_PATTERNS, progress)
    except EdgeshipError:
        raise
    except Exception as error:
        raise _explain(error, repo_id, revision, named) from error
    return folder, folder.name


def _download(repo_id: str, revision: str | None, patterns: tuple[str, ...], progress: Progress) -> Path:
    import huggingface_hub

    return Path(
        huggingface_hub.snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=list(IGNORED),
            tqdm_class=_reporter(repo_id, progress),
        )
    )


def _pickles(repo_id: str, folder: Path) -> list[str]:
    import huggingface_hub

    names = [path.name for path in folder.iterdir()]
    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        names = huggingface_hub.HfApi().list_repo_files(repo_id, revision=folder.name)
    return pickle_names(name for name in names if "/" not in name)


def _reporter(repo_id: str, progress: Progress) -> type[Any]:
    """A progress bar, as huggingface_hub wants one, that draws nothing and tells `progress`."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Reporter(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **(options | {"file": io.StringIO(), "disable": False}))  # type: ignore[no-untyped-call]

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            del msg, pos
            if self.unit == "B" and self.total:
                progress(f"downloading {repo_id}", min(1.0, self.n / self.total))

    return Reporter


def _explain(error: Exception, repo_id: str, revision: str | None, named: str) -> EdgeshipError:
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    token_hint = "Ask for access on the model's page, then set HF_TOKEN or run `hf auth login`."
    if isinstance(error, errors.GatedRepoError):
        return HubFailed(f"access to {named} is restricted", where=constants.ENDPOINT, hint=token_hint)
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointNotFound(
            f"{repo_id} has no revision {revision!r}",
            where=constants.ENDPOINT,
            hint="Give a branch, tag or commit.",
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return CheckpointNotFound(
            f"the Hub has no model {repo_id}",
            where=constants.ENDPOINT,
            hint="Check the name; for a private model, set HF_TOKEN or run `hf auth login`.",
        )
    if constants.HF_HUB_OFFLINE:
        return CheckpointNotFound(
            f"{named} is not in the Hub's cache, or not all of it, and HF_HUB_OFFLINE forbids to download it",
            where=constants.HF_HUB_CACHE,
            hint="Unset HF_HUB_OFFLINE, or give a folder.",
        )
    if status in (401, 403):
        return HubFailed(f"the Hub refused access to {named}", where=constants.ENDPOINT, hint=token_hint)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return DiskShort(
            f"the disk is full while downloading {named}",
            where=constants.HF_HUB_CACHE,
            hint="Free some, or set HF_HOME.",
        )
    return HubFailed(
        f"{named} could not be downloaded: {_first_line(error)}",
        where=constants.ENDPOINT,
        hint="Check the network and HF_ENDPOINT; the same command goes on where it stopped.",
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
