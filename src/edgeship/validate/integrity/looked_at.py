"""What the parts of the check read together: a package's folder, and what its files say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgeship.engine.text import TextCodec
from edgeship.errors import EdgeshipError, PackageDamaged
from edgeship.package import DAMAGED, genai_config, manifest, tokenizer
from edgeship.package.genai_config import GenaiConfig
from edgeship.package.manifest import MANIFEST_NAME, Package
from edgeship.package.tokenizer import TokenizerFiles
from edgeship.system.json_file import Complaint
from edgeship.validate.verdict import Finding

_COMPLAINT = Complaint(PackageDamaged, DAMAGED.hint)
_TOLD = 5


@dataclass(frozen=True)
class LookedAt:
    """A folder that an engine can run. Its properties raise EdgeshipError where a file cannot be read."""

    folder: Path

    @cached_property
    def package(self) -> Package | None:
        """With its manifest; None where another tool made the folder, which has none."""
        return manifest.read(self.folder) if (self.folder / MANIFEST_NAME).is_file() else None

    @property
    def of_another_tool(self) -> bool:
        """Whether another tool made it; one of these that was installed has a manifest, too."""
        return self.package is None or self.package.manifest.build.get("builder") == manifest.ANOTHER_TOOL

    @cached_property
    def config(self) -> GenaiConfig:
        """How it is to be run."""
        return genai_config.read(self.folder, _COMPLAINT)

    @cached_property
    def codec(self) -> TextCodec:
        """Our reading of its tokenizer and chat template."""
        return TextCodec(self.folder)

    @cached_property
    def tokenizer_files(self) -> TokenizerFiles:
        """What the files of its tokenizer say."""
        return tokenizer.read(self.folder, _COMPLAINT)


def judged(name: str, faults: Sequence[str], good: str) -> Finding:
    """Fails with these faults, whole sentences without their full stops; passes with `good` where there are none."""
    if not faults:
        return Finding(name, "pass", good)
    more = f" And {len(faults) - _TOLD} more." if len(faults) > _TOLD else ""
    return Finding(name, "fail", " ".join(f"{fault}." for fault in faults[:_TOLD]) + more, len(faults), 0)


def unreadable(name: str, error: EdgeshipError) -> Finding:
    """What could not be looked at, since a file that it is about cannot be read."""
    return Finding(name, "fail", f"It cannot be looked at: {error.what}.")
