"""The README.md of a package: a model card with the metadata that Hugging Face reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from edgeship.package.manifest import Manifest, parameters_in_words
from edgeship.package.prompt_parts import NoParts, PromptParts

_LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.-]*")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

_HOW_TO_RUN = """## Run it

```sh
edgeship model run .
```

or, with onnxruntime-genai alone:

```python
import json
import onnxruntime_genai as og

model = og.Model(".")
tokenizer = og.Tokenizer(model)
messages = json.dumps([{"role": "user", "content": "Hello!"}])
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
generator = og.Generator(model, og.GeneratorParams(model))
generator.append_tokens(tokenizer.encode(prompt))
stream = tokenizer.create_stream()
while not generator.is_done():
    generator.generate_next_token()
    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)
```

`edgeship cache add . --name NAME` installs it under a name."""


def render_card(name: str, manifest: Manifest, parts: PromptParts | NoParts) -> str:
    """The card in Markdown, its front matter in YAML: what follows from the package's content, and no more."""
    sections = (
        _front_matter(manifest),
        f"# {name}\n\n{_what_it_is(manifest)}",
        _HOW_TO_RUN,
        _prompt_format(parts),
        _files(manifest),
    )
    return "\n\n".join(sections) + "\n"


def _front_matter(manifest: Manifest) -> str:
    precision = str(manifest.recipe.get("precision", ""))
    fields: dict[str, Any] = {
        **_licence(manifest.checkpoint.get("licence")),
        **_base_model(manifest),
        "library_name": "onnxruntime-genai",
        "pipeline_tag": "text-generation",
        "tags": ["onnx", "onnxruntime", "onnxruntime-genai", "edgeship", *([precision] if precision else [])],
    }
    # JSON is YAML, and its quotes keep any text from being read as something else.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---"])


def _licence(licence: str | None) -> dict[str, str]:
    if not licence:
        return {}
    if _LICENCE_ID.fullmatch(licence):
        return {"license": licence}
    return {"license": "other", "license_name": licence}


def _base_model(manifest: Manifest) -> dict[str, str]:
    """The Hub's name of the checkpoint; a folder has none."""
    source = str(manifest.checkpoint.get("source", "")).partition("@")[0]
    if not manifest.checkpoint.get("revision") or not _HUB_ID.fullmatch(source):
        return {}
    return {"base_model": source, "base_model_relation": "quantized"}


def _what_it_is(manifest: Manifest) -> str:
    source, recipe = manifest.checkpoint, manifest.recipe
    facts = [
        f"Checkpoint: {_which(source)}",
        f"Architecture: {_code(source.get('architecture', 'unknown'))}" + parameters_in_words(source),
        "Recipe: " + ", ".join(f"{key} {value}" for key, value in recipe.items()),
        f"Context: {manifest.context_tokens:,} tokens",
        f"Made by Edgeship {manifest.edgeship_version}",
    ]
    before = source.get("quantized")
    if isinstance(before, Mapping):
        facts.insert(2, f"Quantized before Edgeship got it, and what that lost is lost here too: {before.get('form')}")
    if manifest.adapter:
        facts.insert(1, f"LoRA adapter, merged: {_which(manifest.adapter)}")
    opening = "A language model in ONNX for CPUs, in the layout that onnxruntime-genai and Foundry Local read."
    return opening + "\n\n" + "\n".join(f"- {fact}" for fact in facts)


def _which(described: Mapping[str, Any]) -> str:
    """The Hub's id and revision of a checkpoint, or else the digest by which its like is known."""
    if described.get("source") and described.get("revision"):
        return f"{_code(described['source'])} at revision {_code(described['revision'])}"
    return f"SHA-256 {_code(described.get('digest', 'unknown'))}"


def _prompt_format(parts: PromptParts | NoParts) -> str:
    if isinstance(parts, NoParts):
        return "## Prompt format\n\nAs `chat_template.jinja` writes it; it cannot be shown turn by turn."
    texts = {
        "Before the first turn, without a system turn": parts.opening or None,
        "System": parts.system,
        "User": parts.user,
        "Assistant": parts.assistant,
        "The last user turn": parts.prompt,
    }
    rows = [f"| {label} | {_code(json.dumps(text, ensure_ascii=False))} |" for label, text in texts.items() if text]
    note = "Derived from `chat_template.jinja`; shown as JSON strings."
    return "\n".join(["## Prompt format", "", note, "", "| Part | Text |", "|---|---|", *rows])


def _files(manifest: Manifest) -> str:
    rows = [f"| {_code(name)} | {file.size_bytes:,} |" for name, file in sorted(manifest.files.items())]
    note = "`edgeship.json` holds their SHA-256 digests and how they were made."
    return "\n".join(["## Files", "", note, "", "| File | Bytes |", "|---|---:|", *rows])


def _code(text: object) -> str:
    """Inline code inside a table: backticks around it, bars escaped."""
    plain = str(text).replace("|", "\\|")
    fence = "``" if "`" in plain else "`"
    return f"{fence}{plain}{fence}"
