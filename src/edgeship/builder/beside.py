"""What a layer that reads texts by itself needs beside the hidden states that the layer before it left (Gemma 4).

That is what each token brings for it, and the keys and values of an earlier layer. All of it lies on disk: of a walk's
texts it is many times as large as their hidden states. A file is mapped for one text at a time, since what has been
read of a mapping counts as memory of the process until it is closed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgeship.builder.data_file import CHUNK_ELEMENTS
from edgeship.builder.layout import PER_LAYER, Matrix, Vector

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.builder.architecture import Architecture
    from edgeship.builder.weights import Weights

    Floats = npt.NDArray[np.float32]

BROUGHT, LENT = "brought", ("lent.key", "lent.value")
"""Inputs of a layer's graph: what tokens bring, [b, s, p]; an earlier layer's keys and values, [b, heads, s, size]."""


def lends(architecture: Architecture, layer: int) -> list[str]:
    """The outputs of a layer's graph that later layers look at: its keys and values, or none."""
    used = any(other.keys.of_layer == layer for other in architecture.layers)
    return [f"present.{layer}.{kind}" for kind in ("key", "value")] if used else []


def is_needed(architecture: Architecture) -> bool:
    """Whether layers need anything beside: then a walk can begin with the first one only."""
    shared = any(layer.keys.of_layer is not None for layer in architecture.layers)
    return bool(architecture.per_layer_width) or shared


class Beside:
    """See above. folder: where the files go. tokens: of all texts, one after the other."""

    def __init__(
        self,
        architecture: Architecture,
        listed: Sequence[Matrix | Vector],
        weights: Weights,
        folder: Path,
        tokens: npt.NDArray[np.int64],
    ) -> None:
        self._architecture, self._weights, self._folder, self._tokens = architecture, weights, folder, tokens
        self._listed = {weight.name: weight for weight in listed}
        self._made = set[str]()

    def feeds(self, layer: int, start: int, stop: int, embedded: Floats) -> dict[str, Floats]:
        """Inputs of a layer's graph for one text. embedded: of all texts, [positions, d]."""
        found: dict[str, Floats] = {}
        if self._architecture.per_layer_width:
            if BROUGHT not in self._made:
                self._bring(embedded)
            found[BROUGHT] = self._open(BROUGHT)[layer, None, start:stop]
        source = self._architecture.layers[layer].keys.of_layer
        if source is not None:
            for name in LENT:
                found[name] = self._open(f"{name}.{source}")[None, :, start:stop]
        return found

    def keep(self, layer: int, start: int, stop: int, present: Sequence[Floats]) -> None:
        """Of one text, what `lends` names."""
        if not present:
            return
        keys = self._architecture.layers[layer].keys
        for name, values in zip((f"{name}.{layer}" for name in LENT), present, strict=True):
            self._make(name, (keys.heads, len(self._tokens), keys.size))
            self._open(name, "r+")[:, start:stop] = values[0]

    def _bring(self, embedded: Floats) -> None:
        """Writes what every token brings for every layer, [layers, positions, p]; as `per_layer.brought` makes it."""
        import numpy as np

        width, layers = self._architecture.per_layer_width, self._architecture.sizes.layers
        self._make(BROUGHT, (layers, len(self._tokens), width))
        projection = self._read(f"{PER_LAYER}projection") * np.float32(self._architecture.sizes.hidden_size**-0.5)
        norm = self._read(f"{PER_LAYER}norm")
        for here, rows in self._rows_of_tokens():
            each = (embedded[here] @ projection.T).reshape(len(here), layers, width)
            size = np.sqrt(np.mean(each**2, axis=-1, keepdims=True) + np.float32(self._architecture.norm_epsilon))
            own = rows.reshape(len(here), layers, width) * np.float32(math.sqrt(width))
            made = (each / size * norm + own) * np.float32(math.sqrt(0.5))
            self._open(BROUGHT, "r+")[:, here] = made.swapaxes(0, 1)

    def _rows_of_tokens(self) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
        """Positions, and the rows of the large embedding for their tokens; no more than a chunk is in memory."""
        import numpy as np

        matrix = self._listed[f"{PER_LAYER}embedding"]
        assert isinstance(matrix, Matrix)
        [part] = matrix.parts
        step = max(1, CHUNK_ELEMENTS // matrix.width)
        for start in range(part.start, part.stop, step):
            here = np.flatnonzero((self._tokens >= start) & (self._tokens < start + step))
            if not len(here):
                continue
            rows = self._weights.rows(part.tensor, start, min(start + step, part.stop))
            for some in np.array_split(here, -(-len(here) // step)):
                yield some, rows[self._tokens[some] - start]

    def _read(self, name: str) -> Floats:
        [part] = self._listed[name].parts
        return self._weights.rows(part.tensor, part.start, part.stop)

    def _make(self, name: str, shape: tuple[int, ...]) -> None:
        """A file for an array of this shape, unless it was made before."""
        import numpy as np

        if name not in self._made:
            np.lib.format.open_memmap(self._path(name), mode="w+", dtype=np.float32, shape=shape)
            self._made.add(name)

    def _open(self, name: str, mode: Literal["r", "r+"] = "r") -> Floats:
        """The array of a file; it is closed with the last view of it."""
        import numpy as np

        return np.lib.format.open_memmap(self._path(name), mode=mode)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npy"
