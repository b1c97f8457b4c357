"""What a checkpoint does when it reads texts: which inputs of its matrices are large, and which matrices bear 4 bits.

Inputs are looked at layer by layer (walk.py). What a matrix costs at 4 bits is seen in the answers of an INT8 build of
the whole: close enough to the original, and small enough for the machine that the result is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.builder import data_file, graph, onnx_model
from edgeship.builder.allocation import scheme
from edgeship.builder.feedback import ErrorFactors, error_factors
from edgeship.builder.layout import Layout, Matrix, Storage, Vector, lay_out, list_weights
from edgeship.builder.products import add_gram, mirror
from edgeship.builder.walk import Walk
from edgeship.progress import Progress, silent
from edgeship.recipe import BLOCK_SIZES, Precision, Recipe
from edgeship.system.machine import usable_cores

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.builder.architecture import Architecture
    from edgeship.builder.weights import Weights

    Floats = npt.NDArray[np.float32]

_FINE = Recipe(precision=Precision.INT8, block_size=32, method="rtn")
SENSITIVITY_LOGITS = 8_000_000
"""Logits that are computed to see what one matrix costs: the larger the vocabulary, the fewer positions."""
SENSITIVITY_TOKENS = (64, 1024)
"""But so many positions at least, and at most."""
WIDEST_GRAM = 6144
"""Inputs: of wider matrices it is measured in parts, since memory grows with the square."""


class Observer:
    """A checkpoint whose behaviour is looked at; its builds lie in `folder`, which the caller removes."""

    def __init__(self, architecture: Architecture, weights: Weights, where: str, folder: Path) -> None:
        self._architecture, self._weights, self._folder = architecture, weights, folder
        self._listed = list_weights(architecture, weights.shapes, where)
        self.matrices = [weight for weight in self._listed if isinstance(weight, Matrix)]

    def sensitivities(
        self,
        recipe: Recipe,
        importance: Mapping[str, Floats],
        sequences: Sequence[Sequence[int]],
        progress: Progress = silent,
    ) -> dict[str, float]:
        """The mean KLD, in nats, that each matrix alone causes when it has 4 bits while all others have 8."""
        import numpy as np

        twins = [replace(matrix, name=graph.coarse(matrix.name)) for matrix in self.matrices]
        storage: dict[str, Storage] = {matrix.name: scheme(matrix, _FINE, 8) for matrix in self.matrices}
        storage |= {twin.name: scheme(twin, recipe, 4) for twin in twins}
        weighted = {graph.coarse(name): weights for name, weights in importance.items()}
        both = self._write([*self._listed, *twins], storage, weighted, progress)
        runner = self._open(both)
        switches = np.zeros(len(self.matrices), dtype=bool)
        least, most = SENSITIVITY_TOKENS
        wanted = SENSITIVITY_LOGITS // self._architecture.sizes.vocab_size
        texts = _cut(sequences, min(most, max(least, wanted)))

        def read() -> Floats:
            return np.concatenate([runner.run(tokens, ["logits"], coarse=switches)[0][0] for tokens in texts])

        fine = _log_softmax(read())
        found = {}
        for index, matrix in enumerate(self.matrices):
            progress(f"calibrate: trying {matrix.name} at 4 bits", index / len(self.matrices))
            switches[:] = False
            switches[index] = True
            found[matrix.name] = _mean_kld(fine, _log_softmax(read()))
        return found

    def _write(
        self,
        listed: Sequence[Matrix | Vector],
        storage: Mapping[str, Storage],
        importance: Mapping[str, Floats] | None,
        progress: Progress,
    ) -> Layout:
        layout, path = lay_out(listed, storage), self._folder / graph.DATA_NAME
        path.unlink(missing_ok=True)

        def tell(written: int) -> None:
            progress("calibrate: preparing", written / layout.size_bytes)

        data_file.write(layout, self._weights, path, guidance=importance, tell=tell)
        data_file.finish(layout, path)
        return layout

    def _open(self, layout: Layout) -> onnx_model.Runner:
        onnx_model.save(graph.author(self._architecture, layout, accuracy_level=4), self._folder)
        return onnx_model.Runner(self._folder, threads=usable_cores())


class Feedback:
    """Guidance for rounding with error feedback: how each matrix's errors are best handed on.

    Measured of a layer's matrices when the first of them is asked for, and dropped for the next layer's.
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._layers = {matrix.name: layer for layer in range(walk.layers) for matrix in walk.matrices(layer)}
        self._grams: dict[str, list[Floats]] = {}
        self._factors: dict[str, list[ErrorFactors]] = {}

    def get(self, name: str, /) -> list[ErrorFactors] | None:
        """By the matrix's name: of every part of its width (`gram_parts`). None for a matrix that only looks up."""
        source = _shares_inputs(name) or name
        if source not in self._layers:
            return None
        if source not in self._factors:
            self._factors.clear()
            if source not in self._grams:
                self._grams.clear()
                self._grams = grams(self._walk, self._layers[source])
            # One at a time, since the rows of a matrix come together.
            self._factors = {source: [error_factors(gram) for gram in self._grams.pop(source)]}
        return self._factors[source]


def grams(walk: Walk, layer: int) -> dict[str, list[Floats]]:
    """The mean of x'x over the inputs x of a layer's matrices, a part of their width after the other, by their names.

    Matrices that read the same inputs share the first one's.
    """
    import numpy as np

    widths = {matrix.name: matrix.width for matrix in walk.matrices(layer) if not _shares_inputs(matrix.name)}
    found = {
        name: [np.zeros((part.stop - part.start,) * 2, np.float32) for part in gram_parts(width)]
        for name, width in widths.items()
    }

    def see(name: str, inputs: Floats) -> None:
        for part, gram in zip(gram_parts(inputs.shape[1]), found.get(name, ()), strict=False):
            add_gram(gram, inputs[:, part])

    walk.read(layer, see)
    for gram in (gram for parts in found.values() for gram in parts):
        mirror(gram)
        gram /= np.float32(walk.positions)
    return found


def energies(walk: Walk) -> dict[str, Floats]:
    """The mean square of every input of every matrix that multiplies, float32 [width], by the matrix's name."""
    import numpy as np

    found: dict[str, Floats] = {}

    def see(name: str, inputs: Floats) -> None:
        found[name] = found.get(name, np.float32(0)) + np.square(inputs).sum(axis=0)

    for layer in range(walk.layers):
        walk.read(layer, see)
    return {name: total / np.float32(walk.positions) for name, total in found.items()}


def gram_parts(width: int) -> list[slice]:
    """Columns that hand on errors among themselves: all, or as few parts of about one size as are narrow enough."""
    count = -(-width // WIDEST_GRAM)
    # Whole blocks of every size, an even number: so many zero points fill whole bytes.
    step = width if count == 1 else -(-width // (2 * max(BLOCK_SIZES) * count)) * 2 * max(BLOCK_SIZES)
    return [slice(start, min(start + step, width)) for start in range(0, width, step)]


def _shares_inputs(name: str) -> str | None:
    """The matrix before it that reads the same inputs."""
    return f"{name.removesuffix('.up')}.gate" if name.endswith(".up") else None


def _cut(sequences: Sequence[Sequence[int]], budget: int) -> list[Sequence[int]]:
    """The first tokens of evenly spread texts, as many as the budget holds."""
    short = [tokens[: max(2, budget // 4)] for tokens in sequences]
    longest = max(len(tokens) for tokens in short)
    wanted = max(1, budget // longest)
    return short[:: -(-len(short) // wanted)]


def _log_softmax(logits: Floats) -> Floats:
    import numpy as np

    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dtype=np.float32)


def _mean_kld(fine: Floats, low: Floats) -> float:
    import numpy as np

    return max(0.0, float((np.exp(fine) * (fine - low)).sum(axis=-1).mean()))
