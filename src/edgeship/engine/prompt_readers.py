"""Readers of a package's chat template that are not ours, each as an encoder to hold ours against."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.errors import TemplateInvalid
from edgeship.package import inference_model, prompt_parts
from edgeship.package.fidelity import Encoder
from edgeship.package.manifest import GENAI
from edgeship.package.template import HINT
from edgeship.system.border import TookTooLong

if TYPE_CHECKING:
    from edgeship.engine.genai_reader import GenaiReader


@contextmanager
def others(folder: Path, not_for: Collection[str]) -> Iterator[dict[str, Encoder]]:
    """onnxruntime-genai's reading of a package, and that of its prompt parts, where it has some.

    not_for: what the package's manifest says of tools that make other prompts; these are left out.
    Raises TemplateInvalid, EngineFailed, DependencyMissing.
    """
    if GENAI in not_for:
        yield {}
        return
    parts = inference_model.read_parts(folder) if (folder / inference_model.FILE_NAME).is_file() else None
    with genai() as reader:
        reader.open(folder)
        found: dict[str, Encoder] = {GENAI: reader.chat}
        if parts is not None:
            found[inference_model.FILE_NAME] = lambda messages: reader.encode(prompt_parts.assemble(parts, messages))
        yield found


@contextmanager
def genai() -> Iterator[GenaiReader]:
    """onnxruntime-genai's tokenizer. Raises TemplateInvalid where it does not come to an end."""
    from edgeship.engine.genai_reader import READ_S, GenaiReader

    try:
        with GenaiReader() as reader:
            yield reader
    except TookTooLong as error:
        raise TemplateInvalid(
            f"{GENAI} has not made a prompt with the tokenizer and the chat template in {READ_S:.0f} s of work",
            where="chat template",
            hint=HINT,
        ) from error
