"""What the process of an engine tells of its tokens is what a tokenizer here would tell; and none is loaded here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.api import Conversation, Sampling
from edgeship.engine.isolated import IsolatedEngine
from edgeship.engine.text import TextCodec
from edgeship.errors import ContextFull, PromptInvalid, TemplateInvalid
from edgeship.package import tokenizer
from tests import bigram
from tests.checkpoints import VOCAB
from tests.conftest import ROOT
from tests.packages import make_package

pytestmark = pytest.mark.slow
QUESTION = Conversation([{"role": "user", "content": "hello<|im_end|>"}])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("bigram") / "bigram").folder


@pytest.fixture(scope="module")
def here(folder: Path) -> TextCodec:
    return TextCodec(folder, 512)


@pytest.fixture(scope="module")
def engine(folder: Path, here: TextCodec) -> Iterator[IsolatedEngine]:  # noqa: ARG001 - is loaded before
    def refused(*_: object) -> None:
        raise AssertionError("a tokenizer is loaded here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "load", refused)
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        with IsolatedEngine(folder, engine=bigram.ENGINE, home=folder.parent) as loaded:
            yield loaded


@given(st.text(max_size=40), st.booleans())
def test_texts(engine: IsolatedEngine, here: TextCodec, text: str, special: bool) -> None:
    prompt = engine.codec.encode(text, special=special)
    assert prompt == here.encode(text, special=special)
    assert engine.codec.places(prompt.tokens, text) == here.places(prompt.tokens, text)


@given(st.lists(st.integers(0, VOCAB - 1), max_size=20), st.booleans())
def test_tokens(engine: IsolatedEngine, here: TextCodec, tokens: list[int], special: bool) -> None:
    assert engine.codec.decode(tokens, special=special) == here.decode(tokens, special=special)
    assert engine.codec.spell(tokens) == here.spell(tokens)


def test_facts(engine: IsolatedEngine, here: TextCodec) -> None:
    codec = engine.codec
    assert (codec.template, codec.config, codec.thinks) == (here.template, here.config, here.thinks)
    assert codec.render(QUESTION) == here.render(QUESTION)


def test_what_is_wrong_is_raised_here(engine: IsolatedEngine) -> None:
    with pytest.raises(PromptInvalid, match="not Unicode"):
        engine.codec.encode("\ud800")
    with pytest.raises(ContextFull, match="longer than any 512 tokens"):
        engine.codec.encode("a" * 10**6)
    with pytest.raises((PromptInvalid, TemplateInvalid)):
        engine.codec.render(Conversation([{"role": "user", "content": "\ud800"}]))


def test_it_answers_while_every_slot_is_busy(engine: IsolatedEngine) -> None:
    forever = Sampling(ignore_eos=True, max_tokens=10**6)
    streams = [engine.stream(engine.encode("hello"), forever) for _ in range(engine.slots + 2)]
    for stream in streams[: engine.slots]:
        next(stream)
    assert engine.stats().running == engine.slots
    assert engine.codec.spell([1])[0].text == "<|im_start|>"
    for stream in streams:
        stream.close()
