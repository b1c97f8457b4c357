"""What `ship` and `compare` make of a checkpoint in a folder of the run: a reference, and a package of each recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeship import builder as builds
from edgeship import readers
from edgeship.builder import Build, Plan, packaging
from edgeship.builder.packaging import Spelling
from edgeship.checkpoint import Checkpoint, require_template
from edgeship.measure.agreement.reference import Reference, Text, of_build, of_checkpoint
from edgeship.package.manifest import Package
from edgeship.progress import Progress, under
from edgeship.recipe import Recipe
from edgeship.settings import Settings
from edgeship.system.machine import cores_to_use
from edgeship.system.storage import require_writable, scratch_folder


@dataclass(frozen=True)
class Made:
    """A recipe on its way: its build, and its package in the work folder."""

    recipe: Recipe
    build: Build
    package: Package


def work_folder(settings: Settings) -> contextlib.AbstractContextManager[Path]:
    """A folder for this run alone. Raises NotWritable, DiskShort."""
    root = settings.home / "work"
    require_writable(root, "set EDGESHIP_HOME to a folder that you may write to.")
    return scratch_folder(root)


def make(
    checkpoint: Checkpoint,
    recipe: Recipe,
    plan: Plan,
    spelling: Spelling,
    settings: Settings,
    work: Path,
    progress: Progress,
) -> Made:
    """Builds and packages one recipe in the work folder. The preflight has looked at all builds' needs together."""
    built = builds.carry_out(plan, settings, under(f"build {recipe.label}", progress), force_resources=True)
    packaged = packaging.write_package(built, checkpoint, work / recipe.label, spelling)
    return Made(recipe, built, packaged)


def reference(
    checkpoint: Checkpoint, fp32: Made | None, texts: Sequence[Text], settings: Settings, work: Path, progress: Progress
) -> Reference:
    """What agreement is measured with, and the token ids for the template check: of `fp32`, or else of the original."""
    out = work / "reference.npz"
    conversations = [conversation.messages for conversation in readers.conversations(checkpoint)]
    if fp32 is not None:
        return of_build.reference(
            fp32.package.folder,
            checkpoint.tokenizer.folder,
            conversations,
            texts,
            out,
            chat_template=require_template(checkpoint),
            special_tokens=checkpoint.special_tokens,
            threads=settings.threads,
            progress=under("reference", progress),
        )
    return of_checkpoint.reference(
        checkpoint.folder,
        checkpoint.adapter.folder if checkpoint.adapter else None,
        conversations,
        texts,
        out,
        architecture=checkpoint.architecture if checkpoint.partial else None,
        eos_ids=checkpoint.stop.eos_ids,
        tokenizer=_tokenizer_folder(checkpoint, work),
        vocab_size=checkpoint.vocab_size if checkpoint.adapter else None,
        chat_template=checkpoint.chat_template,
        allow_pickle=checkpoint.pickle,
        threads=cores_to_use(settings.threads),
        progress=under("original", progress),
    )


def _tokenizer_folder(checkpoint: Checkpoint, work: Path) -> Path:
    """Where the tokenizer lies as transformers reads it; one that is put together from two folders is written out."""
    tokenizer = checkpoint.tokenizer
    if not tokenizer.besides:
        return tokenizer.folder
    (work / "tokenizer").mkdir()
    tokenizer.copy_to(work / "tokenizer")
    return work / "tokenizer"
