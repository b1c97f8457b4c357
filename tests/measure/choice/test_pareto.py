from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeship.measure.choice.pareto import pareto

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=12)


def test_what_no_other_beats() -> None:
    assert pareto([(1, 9), (2, 3), (4, 4), (8, 1)]) == [0, 1, 3]
    # Equal ones beat nobody.
    assert pareto([(1, 1), (1, 1)]) == [0, 1]
    assert pareto([(1, 2), (1, 1)]) == [1]
    assert pareto([]) == []


@given(POINTS)
def test_all_else_is_beaten_by_one_of_them(points: list[tuple[int, int, int]]) -> None:
    front = pareto(points)
    assert bool(front) == bool(points)
    for index, point in enumerate(points):
        beaten = any(
            points[best] != point and all(one <= mine for one, mine in zip(points[best], point, strict=True))
            for best in front
        )
        assert beaten != (index in front)
