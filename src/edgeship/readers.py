"""Whether all readers of a package make the prompts that the model was trained with, and how it is written for that."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.builder import Build, packaging
from edgeship.builder.packaging import Spelling
from edgeship.checkpoint import Checkpoint, require_template
from edgeship.checkpoint.dimensions import DAMAGED as CHECKPOINT_DAMAGED
from edgeship.engine import prompt_readers
from edgeship.engine.api import Conversation
from edgeship.errors import CheckpointInvalid, EngineFailed, TemplateMismatch
from edgeship.package import fidelity, genai_config, plain_jinja, tokenizer
from edgeship.package.fidelity import Encoder, Sample
from edgeship.package.manifest import GENAI, Package
from edgeship.package.template import Message, render
from edgeship.system.json_file import write_object

if TYPE_CHECKING:
    from edgeship.engine.genai_reader import GenaiReader

CHECKPOINT = "the checkpoint"
"""The reader that the others are held against where no reference was run."""


def conversations(checkpoint: Checkpoint) -> tuple[Sample, ...]:
    """What readers of this checkpoint's template are compared by. Raises TemplateMissing, TemplateInvalid."""
    return fidelity.conversations_for(require_template(checkpoint), checkpoint.special_tokens)


def spell(checkpoint: Checkpoint) -> Spelling:
    """How a package of this checkpoint is to be written so that onnxruntime-genai makes its prompts.

    That it cannot is a finding: the spelling's fault. No weights are read.
    Raises TemplateMissing, TemplateInvalid, CheckpointInvalid, DependencyMissing.
    """
    template, encode = require_template(checkpoint), _encoder(checkpoint)
    usual = conversations(checkpoint)
    _require_room(checkpoint, min(len(encode(sample.messages)) for sample in usual))
    searched = fidelity.of_template(template, checkpoint.special_tokens)
    best: Spelling | None = None
    with prompt_readers.genai() as genai:
        for spelling in _spellings(checkpoint, template):
            fault = _fault(checkpoint, spelling, encode, usual, genai)
            if fault is None and _fault(checkpoint, spelling, encode, searched, genai) is None:
                return spelling
            if best is None or (best.fault is not None and fault is None):
                best = replace(spelling, fault=fault)
    assert best is not None
    return best


def _require_room(checkpoint: Checkpoint, shortest: int) -> None:
    if shortest >= checkpoint.context_tokens:
        raise CheckpointInvalid(
            f"the shortest of prompts has {shortest} tokens, and the model's context of {checkpoint.context_tokens} "
            "leaves no room for an answer",
            where=str(checkpoint.folder / "config.json"),
            hint="Set max_position_embeddings to the length that the model was trained with.",
        )


def notes(spelling: Spelling) -> tuple[str, ...]:
    """What is to be said of a spelling before anything is built."""
    if spelling.fault is None:
        return ()
    return (
        f"{GENAI} and Foundry Local make other prompts of this checkpoint, so its package is for Edgeship's own "
        f"engine: {spelling.fault}",
    )


def write_package(build: Build, checkpoint: Checkpoint, folder: Path, spelling: Spelling) -> Package:
    """The package, see `packaging.write_package`; only one whose readers make the checkpoint's prompts takes its place.

    Raises also TemplateMismatch.
    """
    samples, encode = conversations(checkpoint), _encoder(checkpoint)
    tokens = [encode(sample.messages) for sample in samples]
    return packaging.write_package(
        build, checkpoint, folder, spelling, prove=lambda made: check_templates(made, samples, CHECKPOINT, tokens)
    )


def check_templates(
    packaged: Package, samples: Sequence[Sample], reader: str, tokens: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """The token ids that `reader` makes of conversations against those of everything that reads the package.

    These are our engine, onnxruntime-genai's tokenizer unless the package says that it is not for it, and any prompt
    parts. Raises TemplateMismatch with the first difference.
    """
    from edgeship.engine.text import TextCodec

    codec = TextCodec(packaged.folder)
    ids = {id(sample.messages): found for sample, found in zip(samples, tokens, strict=True)}
    with prompt_readers.others(packaged.folder, packaged.manifest.not_for) as others:
        encoders: dict[str, Encoder] = {
            reader: lambda messages: ids[id(messages)],
            # Here all readers take control tokens in a text as such, as transformers does in training.
            "edgeship": lambda messages: codec.render(Conversation(messages), trusting=True).tokens,
            **others,
        }
        mismatches = fidelity.check_fidelity(encoders, samples, lambda numbers: codec.decode(numbers, special=True))
    fidelity.require_fidelity(mismatches)
    known = sorted({mismatch.excuse for mismatch in mismatches if mismatch.excuse})
    known += [f"{name} makes other prompts: {reason}" for name, reason in packaged.manifest.not_for.items()]
    return {
        "conversations": len(samples),
        "readers": ", ".join(encoders),
        "result": "the same token ids" + (f", but for what is known: {'; '.join(known)}" if known else ""),
    }


def _spellings(checkpoint: Checkpoint, template: str) -> Iterator[Spelling]:
    """What is tried, the checkpoint's own words first."""
    document = tokenizer.read_document(checkpoint.tokenizer.folder / tokenizer.FILE_NAME, CHECKPOINT_DAMAGED)
    may_strip_apart = tokenizer.without_strip(document) is not None
    for words in (template, plain_jinja.rewrite(template)):
        if words is None:
            continue
        yield Spelling(words)
        if may_strip_apart:
            yield Spelling(words, strip_apart=True)
            # Then nothing puts a space before a prompt that begins with a text and no special token.
            yield Spelling(plain_jinja.say(" ") + words, strip_apart=True)


def _encoder(checkpoint: Checkpoint) -> Encoder:
    template, loaded = require_template(checkpoint), checkpoint.tokenizer.load()

    def encode(messages: Sequence[Message]) -> Sequence[int]:
        text = render(template, messages, special_tokens=checkpoint.special_tokens)
        return loaded.encode(text, special=False)

    return encode


def _fault(
    checkpoint: Checkpoint, spelling: Spelling, encode: Encoder, samples: Sequence[Sample], genai: GenaiReader
) -> str | None:
    """The first difference that onnxruntime-genai makes, or why it makes nothing; None where all is the same."""
    with tempfile.TemporaryDirectory(prefix="edgeship-") as name:
        folder = Path(name)
        packaging.bring_tokenizer(checkpoint, folder, spelling)
        write_object(folder / genai_config.FILE_NAME, _shape(checkpoint))
        try:
            genai.open(folder)
            encoders: Mapping[str, Encoder] = {CHECKPOINT: encode, GENAI: genai.chat}
            own = checkpoint.tokenizer.load()
            mismatches = fidelity.check_fidelity(encoders, samples, lambda ids: own.decode(ids, special=True))
            fidelity.require_fidelity(mismatches)
        except (EngineFailed, TemplateMismatch) as error:
            return error.what
    return None


def _shape(checkpoint: Checkpoint) -> dict[str, Any]:
    """A genai_config.json for a folder that has a tokenizer and no model."""
    stop = checkpoint.stop
    made = genai_config.for_graph(
        checkpoint.model_type,
        context_tokens=checkpoint.context_tokens,
        vocab_size=checkpoint.vocab_size,
        hidden_size=checkpoint.hidden_size,
        layers=checkpoint.layers,
        heads=checkpoint.kv_heads,
        kv_heads=checkpoint.kv_heads,
        head_size=checkpoint.head_size,
    )
    return genai_config.with_tokens(made, bos_id=stop.bos_id, eos_ids=stop.eos_ids or (0,), pad_id=stop.pad_id)
