from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship.checkpoint.dimensions import DAMAGED
from edgeship.checkpoint.stop_tokens import StopTokens, find_stop_tokens
from edgeship.errors import CheckpointInvalid
from edgeship.package import template, tokenizer
from edgeship.system.json_file import fields_of
from tests import checkpoints
from tests.checkpoints import write_json

END, TURN, IM_END = 0, 1, 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tiny tokenizer alone."""
    checkpoints.make_tokenizer(tmp_path)
    return tmp_path


def stop(folder: Path, *, config: Any = None, generation: Any = None, vocab_size: int = 384) -> StopTokens:
    files = tokenizer.read(folder, DAMAGED)
    ours, theirs = (fields_of(values or {}, folder / "config.json", DAMAGED) for values in (config, generation))
    return find_stop_tokens(ours, theirs, files, template.find(folder, files.config), vocab_size)


def set_config(folder: Path, **values: Any) -> None:
    write_json(folder / "tokenizer_config.json", values)


def test_stop_tokens_that_agree(folder: Path) -> None:
    found = stop(folder, config={"eos_token_id": IM_END}, generation={"eos_token_id": [IM_END]})
    assert found == StopTokens(None, (IM_END,), END, (), {IM_END: "<|im_end|>", END: "<|endoftext|>"})


def test_every_token_that_ends_an_answer_counts_and_the_tokenizers_comes_first(folder: Path) -> None:
    found = stop(folder, config={"eos_token_id": TURN}, generation={"eos_token_id": [END, IM_END]})
    assert found.eos_ids == (IM_END, END, TURN)
    assert found.disagreements == (
        "End of answer: config.json says <|im_start|> (1), "
        "generation_config.json says <|endoftext|> (0) and <|im_end|> (2), the tokenizer says <|im_end|> (2).",
    )


def test_the_templates_end_of_turn_is_found_where_the_configs_forgot_it(folder: Path) -> None:
    set_config(folder, eos_token="<|endoftext|>")
    found = stop(folder, config={"eos_token_id": END})
    assert found.eos_ids == (END, IM_END)
    assert found.disagreements == ("The chat template ends an answer with <|im_end|> (2), which no file names.",)


@pytest.mark.parametrize(
    ("after_answer", "expected"),
    [
        ("{{ eos_token }}", (END,)),
        (" <|im_end|>\n<|im_start|>", (END, IM_END)),
        ("\n### plain words", (END,)),
        ("{{ raise_exception('no') }}", (END,)),
        ("{% if %}", (END,)),
    ],
)
def test_what_follows_an_answer_in_the_template(folder: Path, after_answer: str, expected: tuple[int, ...]) -> None:
    set_config(folder, eos_token="<|endoftext|>")
    template = "{% for m in messages %}{{ m.content }}" + after_answer + "{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    assert stop(folder).eos_ids == expected


def test_nothing_ends_an_answer(folder: Path) -> None:
    set_config(folder)
    (folder / "chat_template.jinja").unlink()
    found = stop(folder)
    assert (found.bos_id, found.eos_ids, found.pad_id) == (None, (), None)
    assert found.disagreements == ("Nothing says which token ends an answer.",)


def test_a_beginning_that_only_the_config_knows_is_not_used(folder: Path) -> None:
    found = stop(folder, config={"bos_token_id": TURN, "eos_token_id": IM_END})
    assert found.bos_id is None
    assert found.disagreements == ("Beginning of text: config.json says <|im_start|> (1), the tokenizer has none.",)
    set_config(folder, bos_token="<|im_start|>", eos_token="<|im_end|>")
    assert stop(folder, config={"bos_token_id": TURN}) == StopTokens(
        TURN, (IM_END,), None, (), {TURN: "<|im_start|>", IM_END: "<|im_end|>"}
    )


def test_nested_configs_are_read_and_impossible_ids_are_not(folder: Path) -> None:
    config = {"text_config": {"eos_token_id": [END, -1, None]}, "pad_token_id": -1}
    assert stop(folder, config=config).eos_ids == (IM_END, END)


@pytest.mark.parametrize("value", ["2", [2, True], 2.0, [[2]], {"id": 2}, 10**30])
def test_what_is_no_token_id_is_told_with_its_field(folder: Path, value: object) -> None:
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        with pytest.raises(CheckpointInvalid, match=rf"has {name} .*, which is not a token id, or a list of them"):
            stop(folder, config={name: value})


def test_a_token_outside_the_vocabulary_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointInvalid, match=r"the token <\|im_end\|> \(2\) is outside the model's vocabulary of 2"):
        stop(folder, vocab_size=2)
    with pytest.raises(CheckpointInvalid, match="the token 384 is outside"):
        stop(folder, generation={"eos_token_id": [384]})


def test_a_token_that_only_the_template_writes_must_be_inside_as_well(folder: Path) -> None:
    set_config(folder, eos_token="<|endoftext|>")
    (folder / "chat_template.jinja").write_text("<|im_end|>{{ messages[0].content }}")
    with pytest.raises(CheckpointInvalid, match=r"<\|im_end\|> \(2\)"):
        stop(folder, vocab_size=2)


def test_padding_outside_the_vocabulary_is_dropped(folder: Path) -> None:
    set_config(folder, eos_token="<|im_end|>")
    found = stop(folder, config={"pad_token_id": 384})
    assert found.pad_id is None
    assert found.disagreements == ("The padding token 384 is outside the vocabulary and is not used.",)
