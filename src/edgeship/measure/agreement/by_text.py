"""Standard errors of figures over positions, where positions of one text are alike: a bootstrap over texts.

The usual error of a mean takes positions for independent of each other. Those of one text are not, since a hard text is
hard at many of them, and such an error comes out too small. Here whole texts are drawn again, with replacement, and a
figure's error is how much it changes from draw to draw. Twenty texts are few: then an error is itself known to a sixth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_DRAWS = 1000
_SEED = 0


class TextDraws:
    """Draws of texts. lengths: the positions of each text, in the order in which positions are given."""

    def __init__(self, lengths: Sequence[int]) -> None:
        texts = len(lengths)
        self._lengths = np.asarray(lengths, np.float64)
        self._text_of = np.repeat(np.arange(texts), lengths)
        chances = np.full(texts, 1 / texts)
        self._times = np.random.default_rng(_SEED).multinomial(texts, chances, _DRAWS).astype(np.float64)
        # n texts drawn from n vary by n - 1 parts of n of what n texts from a world of them do.
        self._wider = np.sqrt(texts / (texts - 1)) if texts > 1 else np.nan

    def means(self, values: Doubles) -> Doubles:
        """The mean of a value of each position, in each draw."""
        sums = np.bincount(self._text_of, values, len(self._lengths))
        return np.asarray(self._times @ sums / (self._times @ self._lengths))

    def quantiles(self, values: Doubles, parts: Sequence[float]) -> Doubles:
        """Quantiles [draws, parts] of a value of each position, interpolated as numpy does."""
        order = np.argsort(values)
        ordered, text_of = values[order], self._text_of[order]
        found = np.empty((len(self._times), len(parts)))
        for draw, times in enumerate(self._times):
            ends = np.cumsum(times[text_of])  # the values below stand there so many times
            place = np.asarray(parts) * (ends[-1] - 1)
            low = np.floor(place)
            at_low, at_high = (ordered[np.searchsorted(ends, at, side="right")] for at in (low, np.ceil(place)))
            found[draw] = at_low + (place - low) * (at_high - at_low)
        return found

    def error(self, figures: Doubles) -> float | None:
        """The standard error of a figure, by its value in each draw; None for a single text."""
        return float(figures.std() * self._wider) if len(self._lengths) > 1 else None
