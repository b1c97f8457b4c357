from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.answer import AnswerText, StopFilter, find_stop, held_length

LETTERS = st.text("abc", max_size=12)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)


class Letters:
    """Tokens are code points; 0 is the beginning of a character that never ends."""

    def __init__(self) -> None:
        self.open = ""

    def push(self, token: int) -> str:
        self.open = "" if token else "?"
        return chr(token) if token else ""

    def flush(self) -> str:
        return self.open


def test_find_stop_takes_the_one_that_is_complete_first() -> None:
    assert find_stop("xabcx", ("abc", "b")) == "b"
    assert find_stop("xabcx", ("bc", "abc")) == "abc"
    assert find_stop("xabcx", ("z",)) is None
    assert find_stop("xabcx", ()) is None


def test_held_length_is_the_longest_beginning_of_a_stop() -> None:
    assert held_length("hello <|", ("<|end|>",)) == 2
    assert held_length("aab", ("abx", "bcd")) == 2
    assert held_length("hello", ("<|end|>",)) == 0
    assert held_length("hello", ()) == 0


@given(LETTERS, STOPS, st.data())
def test_stops_do_not_depend_on_how_text_is_cut(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    filter_, shown = StopFilter(stops), ""
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        if filter_.found is None:
            shown += filter_.push(text[start:end])
    shown += filter_.flush()
    # The definition: the shortest beginning of the text that contains a stop is cut where that stop starts.
    ends = [end for end in range(len(text) + 1) if any(stop in text[:end] for stop in stops)]
    stop = find_stop(text[: ends[0]], stops) if ends else None
    assert shown == (text if stop is None else text[: text.find(stop)])
    assert filter_.found == stop


@given(LETTERS, STOPS)
def test_nothing_is_held_back_without_need(text: str, stops: list[str]) -> None:
    filter_ = StopFilter(stops)
    shown = filter_.push(text)
    if filter_.found is None:
        held = text[len(shown) :]
        assert not held or any(stop.startswith(held) for stop in stops)


def shown(tokens: list[int], *stops: str) -> tuple[list[str], AnswerText]:
    """What each token shows, up to the stop."""
    text = AnswerText(Letters(), stops)
    pieces: list[str] = []
    for token in tokens:
        if text.stopped_by is None:
            pieces.append(text.push(token))
    return pieces, text


def test_text_held_back_is_shown_when_the_answer_ends_otherwise() -> None:
    pieces, text = shown([97, 98], "abc")
    assert pieces == ["", ""]
    assert (text.rest(), text.stopped_by) == ("ab", None)


def test_an_incomplete_character_becomes_visible_at_the_end() -> None:
    pieces, text = shown([97, 0])
    assert (pieces, text.rest()) == (["a", ""], "?")


def test_a_stop_text_across_tokens_hides_itself_and_what_follows() -> None:
    pieces, text = shown([120, 97, 98, 99], "ab")
    assert (pieces, text.stopped_by, text.rest()) == (["x", "", ""], "ab", "")
