"""inference_model.json: a model's name and, where its template has them, prompt parts, as Foundry Local reads them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeship.errors import PackageDamaged
from edgeship.package.prompt_parts import NoParts, PromptParts
from edgeship.system import json_file
from edgeship.system.json_file import Complaint

FILE_NAME = "inference_model.json"
_DAMAGED = Complaint(PackageDamaged, "Remove the package and install it again.")


def document(name: str, parts: PromptParts | NoParts) -> dict[str, Any]:
    """What the file holds: Foundry Local 2 reads Name, Foundry Local 1 PromptTemplate as well.

    name: of a package what it is (see `content_name`); of a copy for Foundry Local, NAME:VERSION as it is registered.
    "opening" is ours: what stands before the first turn where the system has none. Others ignore it.
    """
    facts: dict[str, Any] = {
        "Name": name,
        "Description": f"{name.partition(':')[0]}, made by Edgeship for onnxruntime-genai and Foundry Local on CPUs",
    }
    if isinstance(parts, NoParts):
        return facts
    texts = {key: text for key, text in asdict(parts).items() if text is not None and (text or key != "opening")}
    return facts | {"PromptTemplate": texts}


def content_name(model_type: str, precision: str) -> str:
    """What a package calls itself: what it is, whatever it is installed as."""
    return f"{model_type}-{precision}"


def read_parts(folder: Path) -> PromptParts | None:
    """The prompt parts that a package's file states; None where it states none. Raises PackageDamaged."""
    path = folder / FILE_NAME
    texts = json_file.read_fields(path, _DAMAGED).part("PromptTemplate")
    if not texts.values:
        return None
    required = {key: texts.required_text(key) for key in ("user", "assistant", "prompt")}
    return PromptParts(system=texts.text("system"), opening=texts.text("opening") or "", **required)


def read_name(folder: Path) -> str | None:
    """The model's name without its version; None where the folder states none."""
    try:
        stated = json_file.read_fields(folder / FILE_NAME, _DAMAGED).text("Name")
    except PackageDamaged:
        return None
    return stated and stated.partition(":")[0]
