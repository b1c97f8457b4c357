"""A tokenizer's files, read with the same eyes for a checkpoint and for a package."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import CheckpointInvalid
from edgeship.package import tokenizer
from edgeship.package.tokenizer import TokenizerFiles, spelled_out
from edgeship.system.json_file import Complaint
from tests import checkpoints
from tests.checkpoints import write_json

IM_END = 2
COMPLAINT = Complaint(CheckpointInvalid, "Copy it again.")
ADDED = {"1": {"content": "<|im_start|>", "special": True}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tiny tokenizer alone."""
    checkpoints.make_tokenizer(tmp_path)
    return tmp_path


def read(folder: Path, config: Any = None, older: Any = None) -> TokenizerFiles:
    if config is not None:
        write_json(folder / "tokenizer_config.json", config)
    if older is not None:
        write_json(folder / "special_tokens_map.json", older)
    return tokenizer.read(folder, COMPLAINT)


def test_special_tokens_and_their_ids(folder: Path) -> None:
    found = read(folder)
    assert found.special_tokens == {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    assert (found.role_id("eos_token"), found.role_id("bos_token")) == (IM_END, None)
    assert [path.name for path in found.files] == ["tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize(
    ("config", "older", "bos"),
    [
        ({}, {"bos_token": "<|im_start|>"}, "<|im_start|>"),
        ({}, {"bos_token": {"content": "<|im_start|>", "lstrip": False}}, "<|im_start|>"),
        ({"bos_token": None}, {"bos_token": "<|im_start|>"}, "<|im_start|>"),
        ({"bos_token": "<|endoftext|>"}, {"bos_token": "<|im_start|>"}, "<|im_start|>"),
        ({"bos_token": "<|im_start|>"}, {}, "<|im_start|>"),
        ({"bos_token": {"content": "<|im_start|>"}}, {}, "<|im_start|>"),
        ({"added_tokens_decoder": ADDED}, {"bos_token": "<|im_start|>"}, None),
        ({"added_tokens_decoder": ADDED, "bos_token": "<|endoftext|>"}, {"bos_token": None}, "<|endoftext|>"),
        ({"extra_special_tokens": {"bos_token": "<|im_start|>"}}, {}, "<|im_start|>"),
        ({"add_bos_token": True}, {}, None),
    ],
)
def test_special_tokens_are_those_that_transformers_finds(folder: Path, config: Any, older: Any, bos: Any) -> None:
    assert read(folder, config, older).special_tokens.get("bos_token") == bos


@pytest.mark.slow
@pytest.mark.parametrize("config", [{}, {"bos_token": None}, {"bos_token": "<|endoftext|>"}])
@pytest.mark.parametrize("added", [{}, {"added_tokens_decoder": ADDED}])
@pytest.mark.parametrize("older", [{"bos_token": "<|im_start|>"}, {"bos_token": {"content": "<|im_start|>"}}])
def test_transformers_agrees(folder: Path, config: Any, added: Any, older: Any) -> None:
    transformers = pytest.importorskip("transformers")
    found = read(
        folder, {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", **config, **added}, older
    )
    assert transformers.AutoTokenizer.from_pretrained(folder).special_tokens_map == found.special_tokens


def test_a_role_may_be_played_by_an_ordinary_token(folder: Path) -> None:
    number = read(folder, {"eos_token": "!"}).role_id("eos_token")
    assert number is not None
    assert number > IM_END


def test_vocabularies_that_are_lists_are_searched_by_place(folder: Path) -> None:
    write_json(folder / "tokenizer.json", {"added_tokens": [], "model": {"vocab": [["<unk>", 0.0], ["</s>", -1.5]]}})
    assert read(folder, {"eos_token": "</s>"}).role_id("eos_token") == 1


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_damaged_json_is_told_with_its_line(folder: Path, name: str) -> None:
    (folder / name).write_text('{\n"a": \n')
    with pytest.raises(CheckpointInvalid, match=rf"{name} is damaged: line 3") as caught:
        _ = read(folder).ids
    assert caught.value.hint == "Copy it again."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": {"vocab": 3}}, r"model\.vocab 3, which is not an object"),
        ({"model": []}, r"model \[\], which is not an object"),
        ({"model": {"vocab": {"<|im_end|>": "2"}}}, r"model\.vocab\.<\|im_end\|> '2', which is not a whole number"),
        ({"added_tokens": [{"id": 1}]}, r"no added_tokens\[0\]\.content, which must be a text"),
        ({"added_tokens": [{"content": "a"}]}, r"no added_tokens\[0\]\.id, which must be a whole number of at least 0"),
        ({"added_tokens": [{"content": "a", "id": float("inf")}]}, r"added_tokens\[0\]\.id inf, which is not a whole"),
        (
            {"added_tokens": [{"content": "a", "id": -1}]},
            r"added_tokens\[0\]\.id -1, which is not a whole number of at",
        ),
        ({"added_tokens": [{"content": 7, "id": 1}]}, r"added_tokens\[0\]\.content 7, which is not a text"),
        ({"added_tokens": {"a": 1}}, r"added_tokens {'a': 1}, which is not a list"),
        ({"added_tokens": ["a"]}, r"added_tokens\[0\] 'a', which is not an object"),
    ],
)
def test_ids_that_cannot_be_read_are_told_with_field_and_value(folder: Path, content: Any, said: str) -> None:
    write_json(folder / "tokenizer.json", content)
    with pytest.raises(CheckpointInvalid, match=rf"tokenizer\.json has {said}"):
        _ = read(folder).ids


def test_a_vocabulary_that_is_a_list_is_read_by_place(folder: Path) -> None:
    write_json(folder / "tokenizer.json", {"model": {"vocab": [["a", 0.0], 5, [], [["b"], 1], ["<|im_end|>", -1.5]]}})
    assert read(folder).ids == {"<|im_end|>": 4}


def test_truncation_and_padding_are_left_out(folder: Path) -> None:
    plain = read(folder).load().library
    plain.enable_truncation(2)
    plain.enable_padding(length=64)
    plain.save(str(folder / "tokenizer.json"))
    assert len(read(folder).load().encode("hello world, how are you", special=True)) not in (2, 64)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointInvalid, match=r"tokenizer\.json cannot be read"):
        read(folder).load()


# --- tokenizers that fail, or do not end ------------------------------------------------------------------------------


def with_parts(folder: Path, **parts: Any) -> tokenizer.Tokenizer:
    """The tokenizer in `folder` with some of its parts exchanged."""
    path = folder / "tokenizer.json"
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | parts)
    return read(folder).load()


def replacing(what: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": what}, "content": content}


def splitting(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


NO_UNKNOWN = {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "", "max_input_chars_per_word": 9}


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"normalizer": replacing("", "x")}, "hello"),
        ({"pre_tokenizer": splitting("(a+)+$")}, "a" * 40 + "b"),
        ({"model": NO_UNKNOWN | {"vocab": {"a": 0}}}, "b"),
        ({}, " " * 11_000_000),
    ],
    ids=["empty pattern", "catastrophic pattern", "no unknown token", "spaces"],
)
def test_a_text_that_the_library_fails_at(folder: Path, parts: Any, text: str) -> None:
    with pytest.raises(CheckpointInvalid, match=r"tokenizer\.json cannot read a text: \S") as caught:
        with_parts(folder, **parts).encode(text, special=False)
    assert caught.value.where == str(folder / "tokenizer.json")
    assert caught.value.__cause__


def test_tokens_that_the_library_fails_at(folder: Path) -> None:
    damaged = with_parts(folder, decoder={"type": "Strip", "content": "h", "start": 0, "stop": 3})
    letter = damaged.library.token_to_id("h")
    with pytest.raises(CheckpointInvalid, match="cannot write a text") as caught:
        damaged.decode([letter], special=False)
    assert not isinstance(caught.value.__cause__, Exception)  # a panic


def test_a_text_that_is_read_for_too_long_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "ENCODE_S", 0.01)
    with pytest.raises(CheckpointInvalid, match="has not read a text of 600 characters"):
        with_parts(folder, pre_tokenizer=splitting("a*a*b|.")).encode("a" * 600, special=False)


@pytest.mark.parametrize(
    "rules",
    [
        replacing("l", "x" * 1000),
        {"type": "Sequence", "normalizers": [replacing("x", "xx")] * 40},
        {
            "type": "Sequence",
            "normalizers": [{"type": "NFC"}, {"type": "Sequence", "normalizers": [replacing("", "x" * 99)]}],
        },
    ],
)
def test_rules_that_make_texts_many_times_as_long_are_refused(folder: Path, rules: Any) -> None:
    with pytest.raises(CheckpointInvalid, match="times as long, and 64 is the most"):
        with_parts(folder, normalizer=rules)
    with pytest.raises(CheckpointInvalid, match="times as long"):
        with_parts(
            folder,
            normalizer=None,
            decoder=json.loads(json.dumps(rules).replace("normalizers", "decoders").replace('"NFC"', '"Fuse"')),
        )


def test_rules_in_use_are_taken(folder: Path) -> None:
    usual = [{"type": "Prepend", "prepend": "\u2581"}, replacing(" ", "\u2581"), replacing("''", '"')]
    assert with_parts(folder, normalizer={"type": "Sequence", "normalizers": usual}).encode("a b", special=False)


@pytest.mark.parametrize("pattern", ["(" * 20_000 + "a" + ")" * 20_000, "("])
def test_a_pattern_that_cannot_be_read(folder: Path, pattern: str) -> None:
    with pytest.raises(CheckpointInvalid, match=r"tokenizer\.json cannot be read: .*Oniguruma"):
        with_parts(folder, pre_tokenizer=splitting(pattern))


def test_dropout_is_refused_with_what_to_do(folder: Path) -> None:
    stated = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for dropout in (None, 0.0, 0.1):
        write_json(folder / "tokenizer.json", stated | {"model": stated["model"] | {"dropout": dropout}})
        found = tokenizer.read(folder, COMPLAINT)
        if not dropout:
            assert found.ids
            continue
        with pytest.raises(
            CheckpointInvalid, match=r"tokenizer\.json has model\.dropout 0\.1, which .* random"
        ) as failure:
            _ = found.ids
        assert failure.value.hint == "It is for training only: set it to null."


def test_a_config_that_states_the_special_tokens_itself() -> None:
    said = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": True, "model_max_length": 9}
    assert spelled_out(said, {"bos_token": "<s>", "eos_token": "</s>"}) == said
    assert spelled_out(said, {"bos_token": "<b>"}) == said | {"bos_token": "<b>", "eos_token": None}
    assert spelled_out({}, {"bos_token": "<s>"}) == {"bos_token": "<s>"}


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"eos_token": 2}, "eos_token 2, which is not a text, or an object with its text as content"),
        ({"bos_token": ["<s>"]}, "bos_token ['<s>'], which is not a text, or an object"),
        ({"pad_token": {"content": 3}}, "pad_token.content 3, which is not a text"),
        ({"pad_token": {}}, "no pad_token.content, which must be a text"),
        ({"extra_special_tokens": {"unk_token": 1}}, "extra_special_tokens.unk_token 1, which is not a text"),
    ],
)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_special_token_that_is_none_is_told_with_its_field(folder: Path, name: str, stated: Any, said: str) -> None:
    write_json(folder / name, stated)
    with pytest.raises(CheckpointInvalid, match=re.escape(f"{name} has {said}")):
        tokenizer.read(folder, COMPLAINT)
