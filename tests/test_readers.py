"""Every reader of a package makes the prompts that the model was trained with, or the package says which does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from edgeship import builder as builds
from edgeship import readers
from edgeship.builder.packaging import Spelling
from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.engine import genai_reader
from edgeship.engine.text import TextCodec
from edgeship.errors import CheckpointInvalid, NotSupported, TemplateInvalid, TemplateMismatch
from edgeship.foundry import checks
from edgeship.package import fidelity
from edgeship.package import manifest as manifests
from edgeship.package.manifest import GENAI, Package
from edgeship.recipe import Precision, Recipe
from edgeship.settings import Settings
from tests import chat_templates, checkpoints
from tests.chat_templates import FAMILIES


def opened(tiny: Path, template: str | None = None, **config: Any) -> Checkpoint:
    """The tiny checkpoint with another template and another word on its tokens."""
    if template is not None:
        (tiny / "chat_template.jinja").write_text(template, encoding="utf-8")
    stated = json.loads((tiny / "tokenizer_config.json").read_text(encoding="utf-8"))
    checkpoints.write_json(tiny / "tokenizer_config.json", stated | config)
    return open_checkpoint(str(tiny))


def packaged(checkpoint: Checkpoint, settings: Settings, folder: Path) -> Package:
    built = builds.build(checkpoint, Recipe(precision=Precision.INT4), settings)
    return readers.write_package(built, checkpoint, folder, readers.spell(checkpoint))


@pytest.mark.parametrize("context", [1, 8])
def test_a_context_that_no_prompt_leaves_room_in_is_refused(tiny: Path, context: int) -> None:
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(max_position_embeddings=context))
    with pytest.raises(CheckpointInvalid, match=f"context of {context} leaves no room for an answer"):
        readers.spell(opened(tiny))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in chat_templates.OTHERWISE])
def test_a_template_that_onnxruntime_genai_renders_stays_as_it_is(tiny: Path, family: str) -> None:
    template, tokens = FAMILIES[family].template, FAMILIES[family].tokens
    spelling = readers.spell(opened(tiny, template, **tokens))
    assert (spelling.template, spelling.strip_apart, spelling.fault) == (template, False, None)
    assert readers.notes(spelling) == ()


def test_a_tokenizer_may_be_as_large_as_gemmas(tiny: Path) -> None:
    with (tiny / "tokenizer.json").open("a", encoding="utf-8") as stream:
        stream.write(33_000_000 * " ")
    assert readers.spell(opened(tiny)).fault is None


@pytest.mark.parametrize("name", chat_templates.OTHERWISE)
def test_a_template_that_it_renders_otherwise_is_given_to_it_in_other_words(tiny: Path, name: str) -> None:
    template = chat_templates.OTHERWISE[name]
    spelling = readers.spell(opened(tiny, template))
    assert spelling.fault is None
    assert spelling.template != template


@pytest.mark.parametrize(
    "template", [chat_templates.INST, *(FAMILIES[name].template for name in ("llama3", "qwen2.5"))]
)
def test_a_space_before_the_first_piece_only(tiny: Path, template: str) -> None:
    """onnxruntime-genai puts one before every piece where the decoder strips the first space."""
    checkpoints.make_sentencepiece_tokenizer(tiny)
    spelling = readers.spell(opened(tiny, template))
    assert (spelling.strip_apart, spelling.fault) == (True, None)


@pytest.mark.slow
def test_a_package_whose_decoder_strips_apart(tiny: Path, settings: Settings, tmp_path: Path) -> None:
    checkpoints.make_sentencepiece_tokenizer(tiny)
    checkpoint = opened(tiny, chat_templates.INST)
    made = packaged(checkpoint, settings, tmp_path / "out")
    assert made.manifest.not_for == {}
    codec, own = TextCodec(made.folder), checkpoint.tokenizer.load()
    ids = own.encode("hello world", special=False)
    assert codec.encode("hello world", special=False).tokens == tuple(ids)
    assert codec.decode(ids) == own.decode(ids, special=False) == "hello world"
    stream = codec.stream()
    assert "".join([*map(stream.push, ids), stream.flush()]) == "hello world"
    assert manifests.verify(made) == []


@pytest.mark.slow
def test_a_package_that_onnxruntime_genai_makes_other_prompts_of(
    tiny: Path, settings: Settings, tmp_path: Path
) -> None:
    checkpoint = opened(tiny, chat_templates.UNSAYABLE)
    (remark,) = readers.notes(readers.spell(checkpoint))
    assert "Foundry Local make other prompts" in remark
    made = packaged(checkpoint, settings, tmp_path / "out")
    assert list(made.manifest.not_for) == [GENAI]
    assert "not_for" in json.loads((made.folder / "edgeship.json").read_text(encoding="utf-8"))
    with pytest.raises(NotSupported, match="would make other prompts of it than the model was trained with: "):
        checks.check(made.folder)


@pytest.mark.slow
def test_a_package_for_everyone_says_nothing_of_it(tiny: Path, settings: Settings, tmp_path: Path) -> None:
    made = packaged(open_checkpoint(str(tiny)), settings, tmp_path / "out")
    assert "not_for" not in json.loads((made.folder / "edgeship.json").read_text(encoding="utf-8"))


# onnxruntime-genai finds no text in a text by `in`: it goes where our renderer does not.
FOR_GENAI_ALONE = "{% if 'a' in 'abc' %}{% else %}BODY{% endif %}" + checkpoints.CHATML
ENDLESS = FOR_GENAI_ALONE.replace(
    "BODY",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% set x = 1 %}{% endfor %}{% endfor %}",
)
HUGE = FOR_GENAI_ALONE.replace(
    "BODY",
    "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
)


def test_a_template_that_never_ends_for_onnxruntime_genai_alone(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genai_reader, "READ_S", 3.0)
    with pytest.raises(TemplateInvalid, match="has not made a prompt with the tokenizer and the chat template in"):
        readers.spell(opened(tiny, ENDLESS))


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of memory that holds")
def test_a_template_that_fills_memory_for_onnxruntime_genai_alone(tiny: Path) -> None:
    spelling = readers.spell(opened(tiny, HUGE))
    assert spelling.fault is None
    assert spelling.template != HUGE


def test_an_id_that_no_token_has_is_shown() -> None:
    """onnxruntime-genai gives -1 for an added token past the vocabulary; to decode that was a fault of ours."""
    tokenizer = Tokenizer(models.WordLevel({"hello": 0}, unk_token="hello"))

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids)))

    with pytest.raises(OverflowError):
        decode([0, -1])
    found = fidelity.compare_tokens("one", ("ours", [0, 0]), ("theirs", [0, -1]), decode)
    assert found is not None
    assert (found.found, found.found_text) == ((0, -1), "hello")


def test_an_added_token_past_the_vocabulary_is_a_finding(tiny: Path) -> None:
    document = json.loads((tiny / "tokenizer.json").read_text(encoding="utf-8"))
    document["added_tokens"].append(document["added_tokens"][-1] | {"id": 500, "content": "<end_of_turn>"})
    checkpoints.write_json(tiny / "tokenizer.json", document)
    fault = readers.spell(open_checkpoint(str(tiny))).fault
    assert fault is not None
    assert "conversation 'special tokens in text'" in fault
    assert "onnxruntime-genai has [" in fault


@pytest.mark.slow
def test_a_package_that_makes_other_prompts_than_its_checkpoint_does_not_take_its_place(
    tiny: Path, settings: Settings, tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(str(tiny))
    built = builds.build(checkpoint, Recipe(precision=Precision.INT4), settings)
    with pytest.raises(TemplateMismatch, match="onnxruntime-genai has"):
        readers.write_package(built, checkpoint, tmp_path / "out", Spelling("{{ messages[0].content }}"))
    assert not (tmp_path / "out").exists()
