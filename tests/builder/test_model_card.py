"""The model card: valid front matter, facts, measurements."""

from __future__ import annotations

from typing import Any

import pytest

from edgeship.builder.model_card import render_card
from edgeship.package.prompt_parts import PromptParts
from edgeship.system.storage import FileDigest
from tests.package.test_manifest import manifest

yaml = pytest.importorskip("yaml")

PARTS = PromptParts("<s>{Content}\n", "<u>{Content}|`\n", "<a>{Content}\n", "<u>{Content}\n<a>")


def front_matter(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    values: dict[str, Any] = yaml.safe_load(front)
    return values


def checkpoint(**changes: Any) -> dict[str, Any]:
    return {"source": "tiny", "revision": None, "architecture": "Qwen2ForCausalLM", "parameters": 1_800_000} | changes


def test_front_matter_is_yaml_with_what_hugging_face_reads() -> None:
    card = render_card("qwen2-int4", manifest(checkpoint=checkpoint(licence="apache-2.0")), PARTS)
    assert front_matter(card) == {
        "license": "apache-2.0",
        "library_name": "onnxruntime-genai",
        "pipeline_tag": "text-generation",
        "tags": ["onnx", "onnxruntime", "onnxruntime-genai", "edgeship", "int4"],
    }


@pytest.mark.parametrize("licence", ["Apache License: 2.0", "no\n---\nevil: yes", '"quoted" \\', "Größe", "# none"])
def test_any_licence_text_stays_one_value(licence: str) -> None:
    values = front_matter(render_card("qwen2-int4", manifest(checkpoint=checkpoint(licence=licence)), PARTS))
    assert (values["license"], values["license_name"]) == ("other", licence)
    assert "evil" not in values


def test_a_hub_checkpoint_is_the_base_model() -> None:
    source = checkpoint(source="org/name@main", revision="0123abc")
    values = front_matter(render_card("qwen2-int4", manifest(checkpoint=source), PARTS))
    assert (values["base_model"], values["base_model_relation"]) == ("org/name", "quantized")


@pytest.mark.parametrize("changes", [{"source": "tiny"}, {"source": "org/name"}, {"source": "a b/c", "revision": "0"}])
def test_what_is_not_from_the_hub_has_no_base_model(changes: dict[str, Any]) -> None:
    card = render_card("qwen2-int4", manifest(checkpoint=checkpoint(**changes)), PARTS)
    assert "base_model" not in front_matter(card)


def test_it_says_what_it_is_and_how_to_run_it() -> None:
    sizes = {"genai_config.json": 678, "model.onnx": 12_345}
    files = {name: FileDigest(sha256="0" * 64, size_bytes=size) for name, size in sizes.items()}
    card = render_card("qwen2-int4", manifest(checkpoint=checkpoint(), files=files, adapter={"digest": "0a1b"}), PARTS)
    for fact in (
        "Qwen2ForCausalLM",
        "1,800,000 parameters",
        "precision int4",
        "512 tokens",
        "# qwen2-int4",
        "SHA-256 `0a1b`",
        "edgeship model run .",
        "| `model.onnx` | 12,345 |",
    ):
        assert fact in card


def test_of_a_mixture_it_says_how_many_parameters_work_on_a_token() -> None:
    card = render_card("mixture-int4", manifest(checkpoint=checkpoint(parameters_active=400_000)), PARTS)
    assert "`Qwen2ForCausalLM`, 1,800,000 parameters, of which 400,000 work on each token\n" in card


def test_the_snippet_is_python() -> None:
    card = render_card("qwen2-int4", manifest(), PARTS)
    compile(card.split("```python\n")[1].split("```")[0], "card", "exec")


def test_prompt_parts_stand_in_cells_of_their_own() -> None:
    rows = [line for line in render_card("qwen2-int4", manifest(), PARTS).splitlines() if line.startswith("| User")]
    assert rows == ['| User | ``"<u>{Content}\\|`\\n"`` |']


def test_a_template_without_a_system_turn_has_no_such_row() -> None:
    card = render_card("qwen2-int4", manifest(), PromptParts(None, "{Content}", "{Content}", "{Content}"))
    assert "| System |" not in card
    assert "Before the first turn" not in card
