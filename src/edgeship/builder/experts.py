"""What the experts of a layer make of tokens: computed in float32 with one piece of a matrix in memory at a time.

A graph that runs a layer by itself leaves its experts out (`nodes.Nodes.experts`): all of them together are many times
as large as the rest of the layer, and no two of them are needed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeship.builder import data_file
from edgeship.builder.layout import Matrix, Vector
from edgeship.builder.products import product

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.builder.mixture import Mixture
    from edgeship.builder.weights import Weights

    Floats = npt.NDArray[np.float32]


class Experts:
    """The experts of one layer.

    name: what the names of their weights begin with. listed: the model's weights by name.
    """

    def __init__(self, mixture: Mixture, weights: Weights, listed: Mapping[str, Matrix | Vector], name: str) -> None:
        self._mixture, self._weights, self._listed, self._name = mixture, weights, listed, name

    def mix(self, values: Floats, scores: Floats) -> Floats:
        """What they make of tokens [n, d], as the operator MoE does: each token's largest scores choose its experts.

        scores: [n, experts]; softmax of those that are chosen are the weights of what their experts make.
        """
        import numpy as np

        chosen = np.argsort(-scores, axis=1, kind="stable")[:, : self._mixture.chosen]
        shares = np.take_along_axis(scores, chosen, axis=1)
        shares = np.exp(shares - shares[:, :1])
        shares /= shares.sum(axis=1, keepdims=True)
        mixed = np.zeros_like(values)
        for expert in range(self._mixture.experts):
            rows, places = np.nonzero(chosen == expert)
            if len(rows):
                made = self._multiplied("down", expert, self._gated(expert, values[rows].T))
                mixed[rows] += shares[rows, places, None] * made.T
        return mixed

    def _gated(self, expert: int, columns: Floats) -> Floats:
        """[d, n] -> [inner, n]."""
        import numpy as np

        mixture = self._mixture
        both = self._multiplied("gate_up", expert, columns)
        gate, up = both[0::2], both[1::2]
        if mixture.limit is not None:
            gate, up = np.minimum(gate, mixture.limit), np.clip(up, -mixture.limit, mixture.limit)
        with np.errstate(over="ignore"):  # of infinity comes zero, which is right
            gate = gate / (1 + np.exp(np.float32(-mixture.alpha) * gate))
        made: Floats = gate * (up + np.float32(mixture.up_offset))
        return made

    def _multiplied(self, which: str, expert: int, columns: Floats) -> Floats:
        """[width, n] -> [rows, n] by an expert's matrix, with its bias where it has one."""
        import numpy as np

        matrix, bias = self._listed[f"{self._name}{which}"], self._listed.get(f"{self._name}{which}.bias")
        assert isinstance(matrix, Matrix)
        pieces = matrix.parts[expert].cut(max(1, data_file.CHUNK_ELEMENTS // matrix.width))
        made = np.concatenate([product(data_file.read_part(piece, self._weights), columns) for piece in pieces])
        if bias is not None:
            made += self._weights.rows(bias.parts[0].tensor, expert, expert + 1).T
        return made
