"""What is recommended: the front, the figures, and what to try."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship.measure.choice.choose import Thresholds, Undecided, choose
from edgeship.measure.choice.recommendation import frontier, in_figures, ways_on
from edgeship.measure.measurement import Measurement
from edgeship.recipe import RECIPES, named_recipe
from tests.measure.samples import evaluation, fidelity, measurement, speed


def made(size: int, tokens_per_s: float, passed: int | None = None, kld: float | None = None) -> Measurement:
    return measurement(
        size,
        speed=speed(tokens_per_s),
        evaluation=None if passed is None else evaluation([index < passed for index in range(100)]),
        fidelity=None if kld is None else fidelity(kld),
    )


def test_the_front_is_what_none_beats() -> None:
    several = {
        "fp32": made(400, 50, 97),
        "fp16": made(200, 40, 97),
        "int8": made(100, 80, 97),
        "int4": made(60, 70, 90),
    }
    assert frontier(several) == ("int8", "int4")


def test_what_is_alike_beats_nothing() -> None:
    assert frontier({"a": made(1, 1, 1), "b": made(1, 1, 1)}) == ("a", "b")


def test_without_an_evaluation_of_all_agreement_counts() -> None:
    assert frontier({"a": made(100, 50, 97, kld=0.1), "b": made(100, 50, kld=0.2)}) == ("a",)
    assert frontier({"a": made(100, 50, kld=0.1), "b": made(100, 60)}) == ("b",)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1), st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))))
def test_whoever_is_not_in_front_is_beaten_by_one_who_is(figures: dict[str, tuple[int, int, int]]) -> None:
    front = frontier({label: made(*found) for label, found in figures.items()})
    assert bool(front) == bool(figures)
    for label, (size, decode, passed) in figures.items():
        beaten = [
            other
            for other in front
            if (theirs := figures[other]) != (size, decode, passed)
            and theirs[0] <= size
            and theirs[1] >= decode
            and theirs[2] >= passed
        ]
        assert bool(beaten) == (label not in front)


def test_the_figures_of_this_machine() -> None:
    int4, fp32 = made(70_000_000, 75.0), made(500_000_000, 50.0)
    assert in_figures("int4", int4, fp32) == (
        "on this machine INT4 takes 70.0 MB on disk (0.14 of FP32), 280 MB of memory (FP32 2,000 MB), "
        "and decodes 75 tokens/s (1.5 times FP32)"
    )
    alone = "on this machine INT4 takes 70.0 MB on disk and 280 MB of memory, and decodes 75 tokens/s"
    assert in_figures("int4", int4, None) == in_figures("int4", int4, int4) == alone


def ways(
    candidate: Measurement, baseline: Measurement, *names: str, undecided: Undecided = "take", **how: bool
) -> list[str]:
    recipes: dict[str, Any] = {name: named_recipe(name, {}, where="test").to_key() for name in names}
    choice = choose({names[0]: candidate}, baseline, Thresholds(), undecided)
    assert choice.chosen is None
    return list(ways_on(choice, recipes, evaluated=candidate.evaluation is not None, escalated=False, **how))


def test_ways_where_nothing_holds() -> None:
    found = ways(made(1, 1, 50), made(2, 1, 97), "int4", "fp32")
    assert [way.partition(" (")[2].removesuffix(")") for way in found] == [
        "--escalate",
        "-p int8" if "int4-best" not in RECIPES else "-p int4-best",
        "--block-size 32",
        "--calibrate FILE",
        "--min-pass-rate, --max-drop",
    ]


def test_ways_where_it_is_undecided() -> None:
    found = ways(made(1, 1, 96), made(2, 1, 97), "int8", undecided="refuse")
    assert found[:2] == [
        "more cases, since those there are do not decide (--eval FILE)",
        "what looks as if it held (--undecided take)",
    ]
    assert not any("--escalate" in way or "--block-size" in way for way in found)


def test_ways_without_an_evaluation() -> None:
    found = ways(made(1, 1, kld=3.0), made(2, 1, kld=0.0), "int4")
    assert "--eval FILE" in found[0]
    assert "--max-kld" in found[-1]


@pytest.mark.parametrize("passed", [40, 60])
def test_what_is_at_fault_itself_is_not_mended_by_recipes(passed: int) -> None:
    (only,) = ways(made(1, 1, passed), made(2, 1, 60), "int4")
    assert "--min-pass-rate" in only
