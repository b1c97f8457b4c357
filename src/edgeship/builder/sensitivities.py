"""What each matrix alone costs in quality when it has 4 bits, measured within the memory of one layer.

The hidden states that leave a layer with one of its matrices at 4 bits go their own way through the layers after it,
beside those of the checkpoint itself. At the end of all ways are predictions, and those are compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeship.builder import graph, nodes
from edgeship.builder.allocation import scheme
from edgeship.builder.layout import EMBEDDING, Layout, Matrix, Storage, Vector, output_name
from edgeship.builder.quantize import dequantize, quantize
from edgeship.progress import Progress, silent
from edgeship.recipe import Precision, Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.builder.onnx_model import Runner
    from edgeship.builder.walk import Walk

    Floats = npt.NDArray[np.float32]
    _Trip = tuple[Sequence[Floats], dict[str, Any]]

LOGITS = 8_000_000
"""Logits that are computed to see what one matrix costs: the larger the vocabulary, the fewer positions."""
TOKENS = (64, 1024)
"""But so many positions at least, and at most."""
UNBEARABLE = 1e6
"""Nats: more than any finite logits cost. A matrix that gives no numbers at 4 bits counts as costing this much."""
_FINE = Recipe(precision=Precision.INT8, block_size=32, method="rtn")
OUTPUT_ELEMENTS = 1 << 23
"""Of the output layer's matrix, that predictions are computed with at a time."""
_ABREAST = 8
"""Ways that go through a layer together."""


def tokens_wanted(vocab_size: int) -> int:
    """Positions at which predictions are compared."""
    least, most = TOKENS
    return min(most, max(least, LOGITS // vocab_size))


def cut_texts(sequences: Sequence[Sequence[int]], budget: int) -> list[Sequence[int]]:
    """The first tokens of evenly spread texts, as many as the budget holds."""
    short = [tokens[: max(2, budget // 4)] for tokens in sequences]
    longest = max(len(tokens) for tokens in short)
    wanted = max(1, budget // longest)
    return short[:: -(-len(short) // wanted)]


def measure_sensitivities(
    walk: Walk,
    recipe: Recipe,
    importance: Mapping[str, Floats],
    progress: Progress = silent,
    kept: Collection[str] = (),
) -> dict[str, float]:
    """The mean KLD, in nats, that each matrix alone causes when it has 4 bits, by the matrix's name.

    kept: matrices that are not asked about, since they have 4 bits in the checkpoint; those of experts are not, either.
    """
    [embedding] = [matrix for matrix in walk.weights if matrix.name == EMBEDDING and isinstance(matrix, Matrix)]
    low = scheme(embedding, recipe, 4)

    def rounded(rows: Floats) -> Floats:
        return dequantize(quantize(rows, low, importance.get(EMBEDDING)), low, rows.shape[1])

    itself = walk.embedded()
    ways = {} if EMBEDDING in kept else {EMBEDDING: walk.embedded(rounded)}
    for layer in range(walk.layers):
        progress(f"calibrate: layer {layer + 1} of {walk.layers} at 4 bits", layer / walk.layers)
        layout, names = _write_twice(walk, walk.of_layer(layer), "float32", recipe, importance, kept)
        switched = graph.author_layer(walk.architecture, layout, layer, switched=True)
        own = _part(walk, layer, switched, itself, names) if names else {}
        every = [itself, *ways.values()]
        trips: list[_Trip] = [(every[begin : begin + _ABREAST], {}) for begin in range(0, len(every), _ABREAST)]
        _advance(walk, layer, walk.open(graph.author_layer(walk.architecture, layout, layer)), trips)
        ways |= own
    progress("calibrate: comparing predictions", 1.0)
    return _compare(walk, recipe, importance, itself, ways, kept)


def _part(walk: Walk, layer: int, model: nodes.Model, itself: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """The states after a layer with each of its matrices at 4 bits; those before it are the checkpoint's own."""
    import numpy as np

    own = {name: itself.copy() for name in names}
    trips = [([states], {"coarse": np.arange(len(names)) == at}) for at, states in enumerate(own.values())]
    _advance(walk, layer, walk.open(model), trips)
    return own


def _write_twice(
    walk: Walk,
    weights: Sequence[Matrix | Vector],
    fine: Storage | None,
    recipe: Recipe,
    importance: Mapping[str, Floats],
    kept: Collection[str],
) -> tuple[Layout, list[str]]:
    """A data file that holds each matrix but those `kept` with 4 bits too, and their names. fine: None for 8 bits."""
    matrices = [weight for weight in weights if isinstance(weight, Matrix)]
    asked = [matrix.name for matrix in matrices if not (matrix.name in kept or matrix.exact or matrix.stack)]
    twins = [replace(matrix, name=nodes.coarse(matrix.name)) for matrix in matrices if matrix.name in asked]
    storage = {matrix.name: fine or scheme(matrix, _FINE, 8) for matrix in matrices}
    storage |= {twin.name: scheme(twin, recipe, 4) for twin in twins}
    guidance = {nodes.coarse(name): squares for name, squares in importance.items()}
    return walk.write([*weights, *twins], storage, guidance), asked


def _advance(walk: Walk, layer: int, runner: Runner, trips: Sequence[_Trip]) -> None:
    """The states of each way become those after the layer.

    trips: ways that go through it together, and inputs of the graph for them.
    """
    import numpy as np

    legs = [(*trip, *span) for trip in trips for span in walk.spans()]
    feeds = ({"states": np.stack([way[start:stop] for way in ways]), **inputs} for ways, inputs, start, stop in legs)
    reached = walk.run(layer, runner, ["states_after"], feeds)
    for (ways, _, start, stop), [after] in zip(legs, reached, strict=True):
        for way, states in zip(ways, after, strict=True):
            way[start:stop] = states


def _compare(
    walk: Walk,
    recipe: Recipe,
    importance: Mapping[str, Floats],
    itself: Floats,
    ways: Mapping[str, Floats],
    kept: Collection[str],
) -> dict[str, float]:
    """The mean KLD of the predictions at the end of each way. The output layer is opened a few rows at a time."""
    import numpy as np

    output = output_name(walk.architecture)
    every = dict(ways) if output in kept else {output: itself, **ways}
    found = Divergences(list(every), len(itself))
    for rows in _pieces(walk.output):
        layout, names = _write_twice(walk, rows, None, recipe, importance, kept)
        runner = walk.open(graph.author_output(walk.architecture, layout))

        def predict(states: Floats, *, low: bool = False, runner: Runner = runner, names: list[str] = names) -> Floats:
            coarse = {"coarse": np.array([low])} if names else {}
            [logits] = runner.feed(["logits"], states=states[None], **coarse)
            return np.asarray(logits[0], np.float32)

        found.add(predict(itself), ((name, predict(states, low=name == output)) for name, states in every.items()))
    return found.means()


def _pieces(weights: Sequence[Matrix | Vector]) -> Iterator[list[Matrix | Vector]]:
    """The weights of norm and output layer, with a few rows of the latter at a time."""
    [matrix] = [weight for weight in weights if isinstance(weight, Matrix)]
    [whole] = matrix.parts
    of_rows = (matrix.name, f"{matrix.name}.bias")
    for part in whole.cut(max(1, OUTPUT_ELEMENTS // matrix.width)):
        start, stop = part.start - whole.start, part.stop - whole.start
        yield [_rows(weight, start, stop) if weight.name in of_rows else weight for weight in weights]


def _rows(weight: Matrix | Vector, start: int, stop: int) -> Matrix | Vector:
    [part] = weight.parts
    return replace(weight, parts=(replace(part, start=part.start + start, stop=part.start + stop),))


class Divergences:
    """The KLD of several predictions from one, at so many positions, from logits that come a few tokens at a time.

    With logits f of the one and q of another, and p = softmax(f), it is sum(p * (f - q)) - logsumexp(f) + logsumexp(q).
    """

    def __init__(self, names: Sequence[str], positions: int) -> None:
        import numpy as np

        self._fine = _LogSum(positions)
        self._low = {name: _LogSum(positions) for name in names}
        self._gaps = {name: np.zeros(positions) for name in names}

    def add(self, fine: Floats, others: Iterable[tuple[str, Floats]]) -> None:
        """Logits [positions, tokens] of some tokens more, and those of each other prediction by its name."""
        import numpy as np

        with np.errstate(all="ignore"):  # what is no number is told in the end
            weights, shrunk = self._fine.add(fine)
            for name, low in others:
                self._low[name].add(low)
                self._gaps[name] = self._gaps[name] * shrunk + (weights * (fine - low)).sum(axis=1, dtype=np.float64)

    def means(self) -> dict[str, float]:
        """Over the positions, in nats; UNBEARABLE for a prediction that is no number."""
        import numpy as np

        with np.errstate(all="ignore"):
            found = {
                name: float((gap / self._fine.total - self._fine.value + self._low[name].value).mean())
                for name, gap in self._gaps.items()
            }
        return {name: max(0.0, mean) if np.isfinite(mean) else UNBEARABLE for name, mean in found.items()}


class _LogSum:
    """The logarithm of the sum of exponentials, of numbers [positions, n] that come in parts.

    total: the sum of what they are above `top`, the largest so far.
    """

    def __init__(self, positions: int) -> None:
        import numpy as np

        self.top = np.full(positions, -np.inf)
        self.total = np.zeros(positions)

    def add(self, numbers: Floats) -> tuple[Floats, npt.NDArray[np.float64]]:
        """Their exponentials above the largest so far, and what all sums before are to be multiplied by."""
        import numpy as np

        top = np.maximum(self.top, numbers.max(axis=1))
        shrunk, self.top = np.exp(self.top - top), top
        parts = np.exp(numbers - top.astype(np.float32)[:, None])
        self.total = self.total * shrunk + parts.sum(axis=1, dtype=np.float64)
        return parts, shrunk

    @property
    def value(self) -> npt.NDArray[np.float64]:
        """[positions]."""
        import numpy as np

        found: npt.NDArray[np.float64] = self.top + np.log(self.total)
        return found
