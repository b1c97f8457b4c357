"""What a checkpoint does when it reads texts: which inputs of its matrices are large, and which matrices bear 4 bits.

The texts go through an INT8 build of the same checkpoint: close enough to the original, and small enough for the
machine that the result is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgeship.builder import data_file, graph, onnx_model
from edgeship.builder.allocation import scheme
from edgeship.builder.feedback import ErrorFactors, error_factors
from edgeship.builder.layout import EMBEDDING, Layout, Matrix, Storage, Vector, lay_out, list_weights
from edgeship.builder.predict import GRAM_BYTES, WIDEST_GRAM
from edgeship.progress import Progress, silent
from edgeship.recipe import Precision, Recipe
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
GRAM_TOKENS = 8192
"""Positions over which it is measured how a matrix's inputs move together."""


class Observer:
    """A checkpoint whose behaviour is looked at; its builds lie in `folder`, which the caller removes."""

    def __init__(self, architecture: Architecture, weights: Weights, where: str, folder: Path) -> None:
        self._architecture, self._weights, self._folder = architecture, weights, folder
        self._listed = list_weights(architecture, weights.shapes, where)
        self.matrices = [weight for weight in self._listed if isinstance(weight, Matrix)]
        # The embedding of a tied model is the output layer too; of others it only looks up.
        self.multiplied = [matrix for matrix in self.matrices if matrix.name != EMBEDDING or architecture.tied]
        self._fine: Layout | None = None

    def energies(self, sequences: Sequence[Sequence[int]], progress: Progress = silent) -> dict[str, Floats]:
        """The mean square of every input of every matrix that multiplies, float32 [width], by the matrix's name."""
        names = [matrix.name for matrix in self.multiplied]
        return self._observe(names, "energy", sequences, progress)

    def grams(
        self, names: Sequence[str], sequences: Sequence[Sequence[int]], progress: Progress = silent
    ) -> dict[str, Floats]:
        """The mean of x'x over a matrix's inputs x, float32 [width, width], by the matrix's name."""
        return self._observe(names, "gram", sequences, progress)

    def _observe(
        self,
        names: Sequence[str],
        kind: Literal["energy", "gram"],
        sequences: Sequence[Sequence[int]],
        progress: Progress,
    ) -> dict[str, Floats]:
        import numpy as np

        if self._fine is None:
            storage: dict[str, Storage] = {matrix.name: scheme(matrix, _FINE, 8) for matrix in self.matrices}
            self._fine = self._write(self._listed, storage, None, progress)
        runner = self._open(self._fine, dict.fromkeys(names, kind))
        outputs = [f"observed.{name}" for name in names]
        sums = [np.zeros(1, dtype=np.float32) for _ in names]
        for done, tokens in enumerate(sequences):
            progress("calibrate: reading the texts", done / len(sequences))
            for index, seen in enumerate(runner.run(tokens, outputs)):
                sums[index] = sums[index] + seen
        count = np.float32(sum(len(tokens) for tokens in sequences))
        return {name: total / count for name, total in zip(names, sums, strict=True)}

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
        self._fine = None  # the file is written anew
        both = self._write([*self._listed, *twins], storage, weighted, progress)
        runner = self._open(both, {self.multiplied[0].name: "energy"})
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

    def _open(self, layout: Layout, observed: Mapping[str, Literal["energy", "gram"]]) -> onnx_model.Runner:
        onnx_model.save(graph.author(self._architecture, layout, accuracy_level=4, observed=observed), self._folder)
        return onnx_model.Runner(self._folder, threads=usable_cores())


class Feedback:
    """Guidance for rounding with error feedback: how each matrix's errors are best handed on.

    Measured when it is first asked for, for as many matrices as fit into GRAM_BYTES, and dropped for the next ones.
    `fallback` serves the matrices that are too wide, and those that only look up.
    """

    def __init__(
        self,
        observer: Observer,
        sequences: Sequence[Sequence[int]],
        fallback: data_file.Guidance,
        progress: Progress = silent,
    ) -> None:
        self._observer, self._fallback, self._progress = observer, fallback, progress
        self._sequences = _cut(sequences, GRAM_TOKENS)
        self._names = {
            matrix.name: matrix.width
            for matrix in observer.multiplied
            if matrix.width <= WIDEST_GRAM and not _shares_inputs(matrix.name)
        }
        self._grams: dict[str, Floats] = {}
        self._factors: dict[str, ErrorFactors] = {}

    def get(self, name: str, /) -> Floats | ErrorFactors | None:
        """By the matrix's name."""
        source = _shares_inputs(name) or name
        if source not in self._names:
            return self._fallback.get(name)
        if source not in self._factors:
            if source not in self._grams:
                self._grams = self._observer.grams(self._group(source), self._sequences, self._progress)
            # One at a time: the rows of a matrix come together, and its neighbours' are cheap to make again.
            self._factors = {source: error_factors(self._grams[source])}
        return self._factors[source]

    def _group(self, first: str) -> list[str]:
        """`first` and the matrices after it, as many as fit."""
        names = list(self._names)
        group: list[str] = []
        left = GRAM_BYTES
        for name in names[names.index(first) :]:
            left -= 4 * self._names[name] ** 2
            if group and left < 0:
                break
            group.append(name)
        return group


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
