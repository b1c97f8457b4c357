"""What Foundry Local would only notice when it is too late."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import (
    EdgeshipError,
    EngineFailed,
    NameInvalid,
    NotSupported,
    PackageDamaged,
    TemplateInvalid,
    TemplateMissing,
)
from edgeship.foundry import layout
from edgeship.foundry.checks import PROVIDER_WORDS, Prepared, check, check_name, require_undamaged
from edgeship.package.prompt_parts import PromptParts
from tests.packages import make_package


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path / "model-int4" / "v3").folder


@pytest.fixture
def foreign(package: Path) -> Path:
    """The same folder as another tool would leave it: no manifest, no inference_model.json."""
    for name in ("edgeship.json", "inference_model.json"):
        (package / name).unlink()
    return package


def prompt_of(prepared: Prepared) -> str:
    assert isinstance(prepared.parts, PromptParts)
    return prepared.parts.prompt


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values), encoding="utf-8")


def test_a_package_keeps_its_name_and_version(package: Path) -> None:
    prepared = check(package)
    assert prepared.id == "model-int4:3"
    assert prepared.config.context_tokens == 512
    assert prompt_of(prepared).endswith("assistant\n")
    assert check(package, name="other").id == "other:3"


def test_a_folder_of_another_tool_is_called_as_the_folder(foreign: Path) -> None:
    prepared = check(foreign)
    assert (prepared.id, prepared.package) == ("model-int4:3", None)
    assert prompt_of(prepared).endswith("assistant\n")
    for name in ("onnx", "CPU"):
        assert check(foreign.rename(foreign.parent / name)).id == "model-int4:1"
        foreign = foreign.parent / name
    assert check(foreign.rename(foreign.parent / "theirs"), name="other").id == "other:1"


@pytest.mark.parametrize("name", ["-a", ".a", "_a", "a b", "a/b", "a:b", "é", "", "a" * 200, "con", "a..b", "a."])
def test_names_that_it_would_refuse(name: str) -> None:
    with pytest.raises(NameInvalid) as caught:
        check_name(name)
    assert caught.value.hint


@pytest.mark.parametrize("word", PROVIDER_WORDS)
def test_names_by_which_it_would_take_another_provider(package: Path, word: str) -> None:
    with pytest.raises(NameInvalid, match=f"'{word}' in it") as caught:
        check(package, name=f"my-{word}x")
    assert caught.value.hint == "Give another name with --name."


@pytest.mark.parametrize("name", ["a", "A1", "qwen2.5-0.5b_x", "gpu-model", "cuda", "openvino-cpu"])
def test_names_that_it_takes(name: str) -> None:
    assert check_name(name) == name


def test_a_flipped_byte_is_named(package: Path) -> None:
    path = package / "model.onnx.data"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(PackageDamaged, match=r"model\.onnx\.data was altered") as caught:
        require_undamaged(check(package))
    assert caught.value.exit_code == 6


def test_only_a_package_with_a_manifest_can_be_compared_with_it(package: Path, foreign: Path) -> None:
    assert package == foreign
    require_undamaged(check(foreign))


@pytest.mark.parametrize(
    ("spoil", "error", "named"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), PackageDamaged, r"model\.onnx, which .* is missing"),
        (lambda folder: (folder / "model.onnx").write_bytes(b""), PackageDamaged, r"model\.onnx, which .* is empty"),
        (lambda folder: (folder / "tokenizer.json").unlink(), EngineFailed, r"tokenizer\.json cannot be read"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), EngineFailed, r"tokenizer\.json cannot be read"),
        (lambda folder: (folder / "genai_config.json").unlink(), EngineFailed, r"genai_config\.json is missing"),
        (lambda folder: (folder / "genai_config.json").write_text("[]"), EngineFailed, "holds no JSON object"),
    ],
)
def test_what_is_missing_or_damaged(foreign: Path, spoil: Any, error: type[EdgeshipError], named: str) -> None:
    spoil(foreign)
    with pytest.raises(error, match=named):
        check(foreign)


def test_without_a_template_it_would_fail_at_the_first_request(foreign: Path) -> None:
    (foreign / "chat_template.jinja").unlink()
    change(foreign / "tokenizer_config.json", chat_template=None)
    with pytest.raises(TemplateMissing, match="no chat template"):
        check(foreign)


def test_a_template_that_does_not_render(foreign: Path) -> None:
    (foreign / "chat_template.jinja").write_text("{% for %}", encoding="utf-8")
    with pytest.raises(TemplateInvalid):
        check(foreign)


def test_prompt_parts_that_another_tool_wrote_are_not_used(foreign: Path) -> None:
    """As the tutorial's: the line breaks after <|im_end|> and after the last role are not there."""
    parts = {
        "system": "<|im_start|>system\n{Content}<|im_end|>",
        "user": "<|im_start|>user\n{Content}<|im_end|>",
        "assistant": "<|im_start|>assistant\n{Content}<|im_end|>",
        "prompt": "<|im_start|>user\n{Content}<|im_end|>\n<|im_start|>assistant",
    }
    content = json.dumps({"Name": "a:1", "PromptTemplate": parts})
    (foreign / "inference_model.json").write_text(content, encoding="utf-8")
    assert prompt_of(check(foreign)).endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_without_prompt_parts_only_the_older_version_is_refused(foreign: Path, tmp_path: Path) -> None:
    template = "{% for message in messages | reverse %}{{ message.content }}{% endfor %}"
    (foreign / "chat_template.jinja").write_text(template, encoding="utf-8")
    prepared = check(foreign)
    with layout.laid_out(prepared, tmp_path / "cache" / "model") as laid:
        assert "PromptTemplate" not in json.loads((laid.folder / "inference_model.json").read_bytes())
    with pytest.raises(NotSupported, match=r"Foundry Local 1 writes prompts from parts.*it rendered") as caught:
        layout.export(prepared, tmp_path / "older", layout.PUBLISHER, 1)
    assert "foundry register" in str(caught.value.hint)
    assert not (tmp_path / "older").exists()


def test_another_execution_provider(foreign: Path) -> None:
    path = foreign / "genai_config.json"
    config = json.loads(path.read_bytes())
    config["model"]["decoder"]["session_options"]["provider_options"] = [{"cuda": {}}]
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(NotSupported, match="'cuda'"):
        check(foreign)
