"""What a checkpoint does when it reads texts: which inputs of its matrices are large, and which matrices bear 4 bits.

The texts go through an INT8 build of the same checkpoint: close enough to the original, and small enough for the
machine that the result is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.build import data_file, graph, onnx_model
from edgeship.build.allocation import scheme
from edgeship.build.layout import EMBEDDING, Matrix, Storage, Vector, lay_out, list_weights
from edgeship.machine import usable_cores
from edgeship.progress import Progress, silent
from edgeship.recipe import Precision, Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.build.families import Decoder
    from edgeship.build.weights import Weights

    Floats = npt.NDArray[np.float32]

_FINE = Recipe(precision=Precision.INT8, block_size=32, method="rtn")
SENSITIVITY_TOKENS = 256
"""Positions over which a matrix's sensitivity is measured."""


class Observer:
    """A checkpoint whose behaviour is looked at; its builds lie in `folder`, which the caller removes."""

    def __init__(self, decoder: Decoder, weights: Weights, where: str, folder: Path) -> None:
        self._decoder, self._weights, self._folder = decoder, weights, folder
        self._listed = list_weights(decoder, weights.shapes, where)
        self.matrices = [weight for weight in self._listed if isinstance(weight, Matrix)]

    def energies(self, sequences: Sequence[Sequence[int]], progress: Progress = silent) -> dict[str, Floats]:
        """The mean square of every input of every matrix that multiplies, float32 [width], by the matrix's name."""
        import numpy as np

        # The embedding of a tied model is the output layer too; of others it only looks up.
        names = [matrix.name for matrix in self.matrices if matrix.name != EMBEDDING or self._decoder.tied]
        storage: dict[str, Storage] = {matrix.name: scheme(matrix, _FINE, 8) for matrix in self.matrices}
        runner = self._open(self._listed, storage, names, None, progress)
        outputs = [f"observed.{name}" for name in names]
        sums = [np.zeros(1, dtype=np.float64) for _ in names]
        for done, tokens in enumerate(sequences):
            progress("calibrate: reading the texts", done / len(sequences))
            for index, seen in enumerate(runner.run(tokens, outputs)):
                sums[index] = sums[index] + seen
        count = sum(len(tokens) for tokens in sequences)
        return {name: (total / count).astype(np.float32) for name, total in zip(names, sums, strict=True)}

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
        runner = self._open([*self._listed, *twins], storage, [self.matrices[-1].name], weighted, progress)
        switches = np.zeros(len(self.matrices), dtype=bool)
        texts = _cut(sequences, SENSITIVITY_TOKENS)

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

    def _open(
        self,
        listed: Sequence[Matrix | Vector],
        storage: Mapping[str, Storage],
        observed: Sequence[str],
        importance: Mapping[str, Floats] | None,
        progress: Progress,
    ) -> onnx_model.Runner:
        layout = lay_out(listed, storage)

        def tell(message: str, fraction: float | None = None) -> None:
            progress(message.replace("convert", "calibrate"), fraction)

        data_file.write(
            layout,
            self._weights,
            self._folder / graph.DATA_NAME,
            threads=usable_cores(),
            importance=importance,
            progress=tell,
        )
        model = graph.author(self._decoder, layout, accuracy_level=4, observed=dict.fromkeys(observed, "energy"))
        onnx_model.save(model, self._folder)
        return onnx_model.Runner(self._folder, threads=usable_cores())


def _cut(sequences: Sequence[Sequence[int]], budget: int) -> list[Sequence[int]]:
    """The first tokens of evenly spread texts, as many as the budget holds."""
    short = [tokens[: budget // 4] for tokens in sequences]
    wanted = max(1, budget // max(len(tokens) for tokens in short))
    return short[:: max(1, len(short) // wanted)][:wanted]


def _log_softmax(logits: Floats) -> Floats:
    import numpy as np

    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dtype=np.float32)


def _mean_kld(fine: Floats, low: Floats) -> float:
    import numpy as np

    return max(0.0, float((np.exp(fine) * (fine - low)).sum(axis=-1).mean()))
