"""A tokenizer that lost a merge, or their order, is told from one that has all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers

from edgeship.package import DAMAGED, tokenizer
from edgeship.package.tokenizer import Tokenizer
from edgeship.validate.integrity import IntegrityBounds
from edgeship.validate.integrity.sample_texts import sample_texts
from edgeship.validate.integrity.vocabulary import Merges, _round_trip, _tokens_are_made, merges_of
from edgeship.validate.verdict import Finding
from tests import checkpoints
from tests.conftest import ROOT

WORDS = ("hello", "world", "today", "how", "are", "you", "order", "system")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tokenizer.json of a small BPE tokenizer."""
    folder = tmp_path_factory.mktemp("trained")
    checkpoints.make_tokenizer(folder)
    document: dict[str, Any] = json.loads((folder / tokenizer.FILE_NAME).read_bytes())
    return document


def looked_at(document: dict[str, Any]) -> Finding:
    loaded = Tokenizer(Library.from_str(json.dumps(document)), Path(tokenizer.FILE_NAME), DAMAGED)
    return _tokens_are_made(document, loaded, IntegrityBounds(), "default")


def with_merges(document: dict[str, Any], merges: list[Any]) -> dict[str, Any]:
    return {**document, "model": {**document["model"], "merges": merges}}


def test_all_tokens_are_made(trained: dict[str, Any]) -> None:
    assert looked_at(trained).outcome == "pass"


@given(data=st.data())
def test_any_merge_that_is_lost_is_found(trained: dict[str, Any], data: st.DataObject) -> None:
    merges = trained["model"]["merges"]
    lost = data.draw(st.integers(0, len(merges) - 1))
    found = looked_at(with_merges(trained, merges[:lost] + merges[lost + 1 :]))
    assert (found.outcome, found.figure) == ("fail", 1)
    assert repr("".join(merges[lost])) in found.told


def test_all_merges_may_be_lost(trained: dict[str, Any]) -> None:
    found = looked_at(with_merges(trained, []))
    assert (found.outcome, found.figure) == ("fail", len(trained["model"]["merges"]))


def test_merges_in_another_order_are_found() -> None:
    """Of a tokenizer that learnt from enough texts for its merges to meet each other."""
    document = json.loads((ROOT / "examples" / "triage" / "checkpoint" / tokenizer.FILE_NAME).read_bytes())
    assert looked_at(document).outcome == "pass"
    found = looked_at(with_merges(document, document["model"]["merges"][::-1]))
    assert found.outcome == "fail"
    assert "in another order" in found.told


def complete(*words: str) -> Merges:
    """All pieces of words, and all pairs that make one, as converted tokenizers have them."""
    vocab = frozenset(
        word[start:end] for word in words for start in range(len(word)) for end in range(start + 1, len(word) + 1)
    )
    cuts = {(token[:place], token[place:]) for token in vocab for place in range(1, len(token))}
    return Merges(vocab, frozenset(cuts), "", "")


def test_converted_tokenizers_have_every_pair() -> None:
    assert complete(*WORDS).missing() == []


@given(data=st.data())
def test_a_pair_that_is_missing_is_found(data: st.DataObject) -> None:
    merges = complete(*WORDS)
    pair = data.draw(st.sampled_from(sorted(merges.pairs)))
    left = Merges(merges.vocab, merges.pairs - {pair}, "", "")
    assert left.missing() == [pair]


def test_tokenizers_that_were_trained_have_one_pair_for_a_token(trained: dict[str, Any]) -> None:
    merges = merges_of(trained)
    assert merges is not None
    assert len(merges.pairs) == len(merges.made)
    assert merges.missing() == []


@pytest.mark.parametrize("token", ["<0x0A>", "<unused7>", "</table>", "[toxicity=0]", "\u2581\u2581\u2581", "\n\n"])
def test_some_tokens_are_made_by_no_merge_by_design(token: str, trained: dict[str, Any]) -> None:
    model = {**trained["model"], "vocab": trained["model"]["vocab"] | {token: 9_999}}
    merges = merges_of({**trained, "model": model})
    assert merges is not None
    assert merges.unmade() == []


def test_ends_and_continuations_of_words_are_no_part_of_a_letter() -> None:
    ended = {"type": "BPE", "vocab": {"a": 0, "b</w>": 1, "ab</w>": 2}, "merges": ["a b</w>"]}
    continued = {"type": "BPE", "vocab": {"a": 0, "##b": 1, "ab": 2}, "merges": [["a", "##b"]]}
    for model in (ended | {"end_of_word_suffix": "</w>"}, continued | {"continuing_subword_prefix": "##"}):
        merges = merges_of({"model": model})
        assert merges is not None
        assert merges.unmade() == []


def test_other_kinds_of_tokenizers_have_no_merges() -> None:
    assert merges_of({"model": {"type": "Unigram", "vocab": [["a", -1.0]]}}) is None
    assert merges_of({"model": {"type": "WordPiece", "vocab": {"a": 0}}}) is None


# --- texts -----------------------------------------------------------------------------------------------------------


def wordwise(letters: str = "abc", **parts: Any) -> Tokenizer:
    """One that knows these letters, each as a token."""
    vocab = {letter: number for number, letter in enumerate(f"{letters}?")}
    library = Library(models.BPE(vocab=vocab, merges=[], unk_token="?"))
    for name, part in parts.items():
        setattr(library, name, part)
    return Tokenizer(library, Path(tokenizer.FILE_NAME), DAMAGED)


def test_texts_of_every_script_come_back(tmp_path: Path) -> None:
    checkpoints.make_tokenizer(tmp_path)
    found = _round_trip(tokenizer.load(tmp_path / tokenizer.FILE_NAME, DAMAGED), "default")
    assert found.outcome == "pass"
    assert found.told == f"{len(sample_texts())} texts come back from the tokenizer as they were."
    assert {"greek", "hangul", "cuneiform", "ethiopic", "emoji joins"} < set(sample_texts())


def test_a_decoder_that_is_gone_is_found(tmp_path: Path) -> None:
    checkpoints.make_tokenizer(tmp_path)
    loaded = tokenizer.load(tmp_path / tokenizer.FILE_NAME, DAMAGED)
    loaded.library.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("a", "e")])
    assert _round_trip(loaded, "default").outcome == "fail"


def test_what_a_tokenizer_cannot_know_is_left_out() -> None:
    found = _round_trip(wordwise("a=-", decoder=decoders.Fuse()), "quick")
    others = len(sample_texts(8)) - 1
    told = "1 texts come back from the tokenizer as they were."
    assert (found.outcome, found.told) == ("pass", f"{told} {others} others have characters that it does not know.")


def test_where_a_tokenizer_knows_none_of_the_texts_nothing_is_shown() -> None:
    found = _round_trip(wordwise(decoder=decoders.Fuse()), "quick")
    told = f"Each of {len(sample_texts(8))} texts has characters that the tokenizer does not know."
    assert (found.outcome, found.told) == ("skipped", told)


def test_normalizing_by_its_own_rules_is_no_fault() -> None:
    plain, lower = (
        wordwise(decoder=decoders.Fuse()),
        wordwise(decoder=decoders.Fuse(), normalizer=normalizers.Lowercase()),
    )
    assert not plain.covers("ABC")
    assert lower.covers("ABC")
    assert lower.normalized("ABC") == "abc"
