from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.agreement.fidelity import score
from edgeship.measure.agreement.predictions import keep
from edgeship.measure.agreement.reference import ReferenceText
from edgeship.measure.agreement.worst_tokens import WorstTokens
from tests.scripted import VOCAB_SIZE, ByteCodec


def add(worst: WorstTokens, tokens: bytes, strays: dict[int, float]) -> None:
    """A text whose reference finds each byte likely, and a candidate that finds "!" likelier by so much there."""
    ids = np.frombuffer(tokens, np.uint8).astype(int)
    reference = np.zeros((len(ids) - 1, VOCAB_SIZE), np.float32)
    reference[np.arange(len(ids) - 1), ids[1:]] = 8.0
    candidate = reference.copy()
    for position, by in strays.items():
        candidate[position - 1, ord("!")] += by
    text = ReferenceText(tuple(ids.tolist()), 1, keep(reference, ids[1:]))
    worst.add(text, score(text.predictions, candidate, ids[1:]), candidate)


def test_what_both_wanted_and_where() -> None:
    worst = WorstTokens(ByteCodec(), count=2)
    add(worst, b"hello world", {4: 9.0, 7: 3.0})
    add(worst, b"good day", {5: 12.0})
    first, second = worst.worst_first()
    assert (first.text_number, first.position, first.before) == (1, 5, "good ")
    assert (second.text_number, second.position, second.before) == (0, 4, "hell")
    assert first.kld_nats > second.kld_nats > 0
    total = VOCAB_SIZE - 1 + np.exp(8)
    assert first.actual.text == "d"
    assert first.actual.probability == pytest.approx(np.exp(8) / total)
    assert first.candidate_probability == pytest.approx(np.exp(8) / (total - 1 + np.exp(12)))
    assert (first.reference[0].text, first.candidate[0].text, first.candidate[1].text) == ("d", "!", "d")
    assert first.candidate[0].probability == pytest.approx(np.exp(12) / (total - 1 + np.exp(12)))
    assert len(first.reference) == len(first.candidate) == 5


@given(st.lists(st.lists(st.floats(0, 5), min_size=1, max_size=6), min_size=1, max_size=5))
def test_they_are_those_of_all_texts(strays: list[list[float]]) -> None:
    worst, every = WorstTokens(ByteCodec(), count=3), WorstTokens(ByteCodec(), count=100)
    for text in strays:
        for found in (worst, every):
            add(found, b"x" * (len(text) + 1), dict(enumerate(text, 1)))
    assert worst.worst_first() == every.worst_first()[:3]
    klds = [found.kld_nats for found in every.worst_first()]
    assert klds == sorted(klds, reverse=True)
    assert len(klds) == sum(map(len, strays))


def test_no_text_no_tokens() -> None:
    assert WorstTokens(ByteCodec()).worst_first() == ()
