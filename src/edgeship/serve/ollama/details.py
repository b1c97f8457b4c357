"""What a package's files say of it, in Ollama's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeship.engine.sampling import defaults_of
from edgeship.errors import EdgeshipError
from edgeship.package import DAMAGED, genai_config, template, tokenizer
from edgeship.package import manifest as manifests
from edgeship.serve import thoughts
from edgeship.serve.models import ModelCard

_PARAMETERS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}
"""Settings, and what Ollama calls them."""


@dataclass(frozen=True)
class Details:
    """What is known of a model. All of it is empty where its files are elsewhere, or cannot be read.

    digest: of its manifest. family: as onnxruntime-genai calls it. parameters: how many numbers it has.
    """

    digest: str = ""
    family: str = ""
    parameters: int = 0
    precision: str = ""
    licence: str = ""

    def told(self) -> dict[str, Any]:
        """As each list of models has it."""
        return {
            "parent_model": "",
            "format": "onnx" if self.family else "",
            "family": self.family,
            "families": [self.family] if self.family else [],
            "parameter_size": _size(self.parameters) if self.parameters else "",
            "quantization_level": self.precision.upper(),
        }


def of(card: ModelCard) -> Details:
    """Reads them; a package that is damaged is in the list all the same."""
    if card.folder is None:
        return Details()
    try:
        family = genai_config.read(card.folder, DAMAGED).model_type
        if not (card.folder / manifests.MANIFEST_NAME).is_file():
            return Details(family=family)
        package = manifests.read(card.folder)
    except EdgeshipError:
        return Details()
    made_of, recipe = package.manifest.checkpoint, package.manifest.recipe
    return Details(
        digest=package.digest,
        family=family,
        parameters=made_of.get("parameters") or 0,
        precision=recipe.get("precision") or "",
        licence=made_of.get("licence") or "",
    )


def shown(card: ModelCard, context_tokens: int | None) -> dict[str, Any]:
    """All that is told of one model. context_tokens: what it has here, where that is known. Raises PackageDamaged."""
    details = of(card)
    if card.folder is None:
        return {"details": details.told(), "model_info": {}, "capabilities": ["completion"], "template": ""}
    config = genai_config.read(card.folder, DAMAGED)
    chat_template = template.find(card.folder, tokenizer.read(card.folder, DAMAGED).config, hint=DAMAGED.hint)
    context = min(config.context_tokens, context_tokens or config.context_tokens)
    return {
        "details": details.told(),
        "model_info": {
            "general.architecture": config.model_type,
            "general.parameter_count": details.parameters,
            f"{config.model_type}.context_length": context,
        },
        "capabilities": ["completion", *_abilities(chat_template)],
        "template": chat_template or "",
        "parameters": _parameters(config),
        "license": details.licence,
    }


def _abilities(chat_template: str | None) -> list[str]:
    tools = chat_template is not None and "tools" in template.asks_for(chat_template)
    return ["tools"] * tools + ["thinking"] * (thoughts.switch_of(chat_template) is not None)


def _parameters(config: genai_config.GenaiConfig) -> str:
    """What holds where a request says nothing, a line each."""
    defaults = defaults_of(config.search)
    stated = {told: getattr(defaults, name) for name, told in _PARAMETERS.items()}
    return "\n".join(f"{name} {value:g}" for name, value in stated.items() if value is not None)


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.2f}M"
