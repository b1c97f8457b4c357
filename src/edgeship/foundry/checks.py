"""What Foundry Local does not check when a model is registered, and only notices, if at all, when it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeship.engine.text import TextCodec
from edgeship.errors import NameInvalid, NotSupported, PackageDamaged, TemplateMissing
from edgeship.package import DAMAGED, fidelity, genai_config, names, prompt_parts, tokenizer
from edgeship.package import manifest as manifests
from edgeship.package import template as templates
from edgeship.package.conversation import Conversation
from edgeship.package.fidelity import Sample
from edgeship.package.genai_config import GenaiConfig
from edgeship.package.manifest import GENAI, MANIFEST_NAME, Package
from edgeship.package.prompt_parts import NoParts, PromptParts
from edgeship.package.template import Message

PROVIDER_WORDS = (
    "cuda-gpu",
    "openvino-npu",
    "openvino-gpu",
    "qnn-npu",
    "trtrtx-gpu",
    "vitis-npu",
    "generic-gpu",
)
"""Words anywhere in a name that make Foundry Local demand, or take, another execution provider than the CPU."""
DAMAGED_HINT = "Install the package again; nothing was registered."


@dataclass(frozen=True)
class Prepared:
    """A package that Foundry Local can run, under the name and version that it is to have there.

    package: None for a folder of another tool. parts: its prompt parts, which the older versions read.
    conversations: what readers of its template are compared by.
    """

    folder: Path
    name: str
    version: int
    config: GenaiConfig
    parts: PromptParts | NoParts
    package: Package | None
    conversations: tuple[Sample, ...]

    @property
    def id(self) -> str:
        """name:version, as Foundry Local names it."""
        return f"{self.name}:{self.version}"


def check(folder: Path, *, name: str | None = None) -> Prepared:
    """The package in `folder`, ready for Foundry Local unless it is damaged; see `require_undamaged`.

    name: another than its own.
    Raises NameInvalid, PackageDamaged, EngineFailed, TemplateMissing, TemplateInvalid, TemplateMismatch, NotSupported.
    """
    package = manifests.read(folder) if (folder / MANIFEST_NAME).is_file() else None
    stated, version = package.called if package else names.of_folder(folder)
    name = check_name(name or stated)
    _require_meant(package)
    config = genai_config.read(folder, DAMAGED)
    if config.provider != "cpu":
        raise NotSupported(
            f"the package asks for the execution provider {config.provider!r}, and only the CPU's are registered",
            where=str(folder / genai_config.FILE_NAME),
        )
    _require_model(config)
    codec = TextCodec(folder)
    template = templates.find(folder, tokenizer.read(folder, DAMAGED).config, named=False)
    if template is None:
        raise TemplateMissing(
            "there is no chat template: Foundry Local would load the model and fail at the first request",
            where=str(folder),
            hint="Build the package again with `--chat-template FILE`.",
        )
    conversations = fidelity.conversations_for(template, codec.special_tokens)
    parts = _parts(template, codec, conversations)
    return Prepared(folder, name, version or 1, config, parts, package, conversations)


def check_name(name: str) -> str:
    """The name, if Foundry Local takes it and runs its model on the CPU. Raises NameInvalid."""
    names.check_name(name)  # whatever may be a package's name, Foundry Local takes
    for word in PROVIDER_WORDS:
        if word in name:
            raise NameInvalid(
                f"{name!r} has {word!r} in it, by which Foundry Local would run it on another provider than the CPU",
                hint="Give another name with --name.",
            )
    return name


def require_undamaged(prepared: Prepared) -> None:
    """Compares a package with its manifest, byte for byte. Raises PackageDamaged."""
    faults = manifests.verify(prepared.package) if prepared.package else []
    if faults:
        raise PackageDamaged("; ".join(faults), where=str(prepared.folder), hint=DAMAGED_HINT)


def _require_meant(package: Package | None) -> None:
    """Raises NotSupported for a package of which onnxruntime-genai, which Foundry Local runs, makes other prompts."""
    reason = package.manifest.not_for.get(GENAI) if package else None
    if reason is not None:
        raise NotSupported(
            f"Foundry Local would make other prompts of it than the model was trained with: {reason}",
            where=str(package.folder) if package else None,
            hint="`edgeship model run` answers with it; for Foundry Local, mend the chat template and build again.",
        )


def _require_model(config: GenaiConfig) -> None:
    name = config.model_file
    path = config.folder / name
    if not path.is_file() or not path.stat().st_size:
        raise PackageDamaged(
            f"{name}, which {genai_config.FILE_NAME} names, is {'empty' if path.is_file() else 'missing'}",
            where=str(config.folder),
            hint=DAMAGED_HINT,
        )


def _parts(template: str, codec: TextCodec, conversations: Sequence[Sample]) -> PromptParts | NoParts:
    """The prompt parts of the template, if it has any, which give the same tokens as the template itself."""
    parts = prompt_parts.derive_parts(template, codec.special_tokens)
    if isinstance(parts, NoParts):
        return parts

    def assembled(messages: Sequence[Message]) -> tuple[int, ...]:
        return codec.encode(prompt_parts.assemble(parts, messages), special=False).tokens

    fidelity.require_fidelity(
        fidelity.check_fidelity(
            {
                "the chat template": lambda messages: codec.render(Conversation(messages), trusting=True).tokens,
                "its prompt parts": assembled,
            },
            conversations,
            lambda tokens: codec.decode(tokens, special=True),
        )
    )
    return parts
