"""A checkpoint that reads texts layer by layer: memory is that of one layer, whatever the model's size.

What goes from layer to layer, the hidden states of every position, is kept in memory, and on disk as it was before the
layer in hand: a killed walk goes on there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.builder import beside, data_file, graph, nodes, onnx_model
from edgeship.builder.beside import Beside
from edgeship.builder.experts import Experts
from edgeship.builder.layout import EMBEDDING, Layout, Matrix, Storage, Vector, lay_out, output_name
from edgeship.builder.listing import list_weights
from edgeship.builder.nodes import MADE, SCORES, SEEN
from edgeship.errors import CheckpointInvalid
from edgeship.system.machine import usable_cores

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.builder.architecture import Architecture
    from edgeship.builder.weights import Weights

    Floats = npt.NDArray[np.float32]

See = Callable[[str, "Floats"], object]
"""Gets a matrix's name and inputs, [positions, width], a text at a time; they are overwritten afterwards."""
_STATES = "states-{}.bin"
_EXPERTS = "layers.{}.experts."
"""What the names of a layer's experts begin with."""
MIXED_POSITIONS = 4096
"""Experts are read for so many positions at a time: the fewer, the more often; the more, the more memory."""
_LARGEST = 1e15
"""Of what layers make of texts. The squares of larger numbers soon add up to infinity."""


class Walk:
    """Texts on their way through a checkpoint's layers, computed in float32.

    digest: the checkpoint's. folder: for the walk alone; the caller removes it when nothing more is asked.
    tell: gets what is being done.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        where: str,
        digest: str,
        sequences: Sequence[Sequence[int]],
        folder: Path,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.architecture, self._weights, self._where = architecture, weights, where
        self._sequences, self._folder, self._tell = sequences, folder, tell
        self.weights = list_weights(architecture, weights.shapes, where)
        self.layers = architecture.sizes.layers
        self.positions = sum(map(len, sequences))
        self._whose = hashlib.sha256(json.dumps([digest, [list(tokens) for tokens in sequences]]).encode())
        self._beside = Beside(architecture, self.weights, weights, folder, self._tokens())
        self._states: Floats | None = None
        self._at = 0

    def of_layer(self, layer: int) -> list[Matrix | Vector]:
        """The weights of one layer, but for those of its experts."""
        own, others = f"layers.{layer}.", _EXPERTS.format(layer)
        return [each for each in self.weights if each.name.startswith(own) and not each.name.startswith(others)]

    @property
    def output(self) -> list[Matrix | Vector]:
        """The weights of the last norm and of the output layer."""
        output = output_name(self.architecture)
        names = ("norm", output, f"{output}.bias")
        return [weight for weight in self.weights if weight.name in names]

    def matrices(self, layer: int) -> list[Matrix]:
        """Those whose inputs are seen when `layer` is read; the output layer's are when the last one is.

        Those of experts are not: an operator chooses experts and multiplies by their matrices in one.
        """
        listed = self.of_layer(layer) + (self.output if layer == self.layers - 1 else [])
        return [weight for weight in listed if isinstance(weight, Matrix) and weight.stack is None]

    def read(self, layer: int, see: See | None = None) -> None:
        """Reads all texts with this layer, and with those before it if it must.

        Raises CheckpointInvalid where that gives no numbers that can be worked with.
        """
        import numpy as np

        states = self._arrive(layer)
        names = [] if see is None else [matrix.name for matrix in self.matrices(layer)]
        runner = self._open(layer, names)
        lent = beside.lends(self.architecture, layer)
        outputs = ["states_after", *lent, *(f"observed.{name}" for name in names)]
        every = zip(self.spans(), self.run(layer, runner, outputs, self._feeds(layer, states)), strict=True)
        for number, ((start, stop), (after, *found)) in enumerate(every, 1):
            inputs = found[len(lent) :]
            self._beside.keep(layer, start, stop, found[: len(lent)])
            # NaN is no number of any size, either.
            if not all(np.abs(values).max() <= _LARGEST for values in (after, *inputs)):
                raise self._overflow(layer, number)
            states[start:stop] = after[0]
            for name, values in zip(names, inputs, strict=True):
                assert see is not None
                see(name, values[0])
        self._at = layer + 1

    def _feeds(self, layer: int, states: Floats) -> Iterator[dict[str, Floats]]:
        """The inputs of a layer's graph for each text; states: before the layer, of all of them."""
        for number, (start, stop) in enumerate(self.spans(), 1):
            self._tell(f"calibrate: layer {layer + 1} of {self.layers}, text {number} of {len(self._sequences)}")
            yield {"states": states[None, start:stop], **self._beside.feeds(layer, start, stop, states)}

    def _overflow(self, layer: int, text: int) -> CheckpointInvalid:
        return CheckpointInvalid(
            f"layer {layer} makes NaN, infinity or numbers above {_LARGEST:g} of calibration text {text}",
            where=self._where,
            hint="Check that the checkpoint itself answers: its training may have gone wrong. --no-calibrate builds "
            "without running it.",
        )

    def _arrive(self, layer: int) -> Floats:
        """The hidden states before this layer, in memory and on disk."""
        if self._states is None or self._at > layer:
            self._at, self._states = self._stored(layer) or (0, self.embedded())
        while self._at < layer:
            self.read(self._at)
        path = self._folder / _STATES.format(layer)
        if not path.exists():
            unfinished = path.with_suffix(".tmp")
            with unfinished.open("wb") as stream:
                stream.write(self._seal(layer, self._states))
                self._states.tofile(stream)
            unfinished.replace(path)
            for other in set(self._folder.glob(_STATES.format("*"))) - {path}:
                other.unlink()
        return self._states

    def _stored(self, layer: int) -> tuple[int, Floats] | None:
        """What an earlier walk left before this layer or one before it, and which."""
        import numpy as np

        if beside.is_needed(self.architecture):
            return None
        shape = (self.positions, self.architecture.sizes.hidden_size)
        for at in range(layer, -1, -1):
            with suppress(OSError), (self._folder / _STATES.format(at)).open("rb") as stream:
                seal, states = stream.read(self._whose.digest_size), np.fromfile(stream, np.float32, math.prod(shape))
                if seal == self._seal(at, states) and states.size == math.prod(shape):
                    return at, states.reshape(shape)
        return None

    def _seal(self, at: int, states: Floats) -> bytes:
        """What only these states have: of this checkpoint and these texts, before this layer."""
        seal = self._whose.copy()
        seal.update(str(at).encode())
        seal.update(states.data)
        return seal.digest()

    def embedded(self, change: Callable[[Floats], Floats] = lambda rows: rows) -> Floats:
        """The embeddings of all tokens, [positions, d]; of the matrix no more than a chunk is in memory.

        change: what becomes of its rows first, [n, d].
        """
        import numpy as np

        [part] = next(weight.parts for weight in self.weights if weight.name == EMBEDDING)
        width = self.architecture.sizes.hidden_size
        tokens = self._tokens()
        found = np.zeros((len(tokens), width), np.float32)
        step = max(1, data_file.CHUNK_ELEMENTS // width)
        for start in range(part.start, part.stop, step):
            here = np.flatnonzero((tokens >= start) & (tokens < start + step))
            if len(here):
                rows = self._weights.rows(part.tensor, start, min(start + step, part.stop))
                found[here] = change(rows[tokens[here] - start])
        found *= np.float32(self.architecture.embedding_scale)
        return found

    def _tokens(self) -> npt.NDArray[np.int64]:
        """Of all texts, one after the other."""
        import numpy as np

        return np.concatenate([np.asarray(sequence, np.int64) for sequence in self._sequences])

    def write(
        self,
        weights: Sequence[Matrix | Vector],
        storage: Mapping[str, Storage],
        guidance: data_file.Guidance | None = None,
    ) -> Layout:
        """The layout of a data file in the walk's folder, which `open` opens with a graph."""
        layout, path = lay_out(weights, storage), self._folder / nodes.DATA_NAME
        data_file.forget(path)  # what a killed walk left may be of other weights
        data_file.write(layout, self._weights, path, guidance=guidance)
        data_file.finish(layout, path)
        return layout

    def open(self, model: nodes.Model) -> onnx_model.Runner:
        """A graph over the data file that was written last.

        Keep no runner beyond that: Windows lets no file be written that one of them holds open.
        """
        onnx_model.save(model, self._folder)
        return onnx_model.Runner(self._folder, threads=usable_cores())

    def run(
        self, layer: int, runner: onnx_model.Runner, outputs: Sequence[str], feeds: Iterable[Mapping[str, Any]]
    ) -> Iterator[list[Any]]:
        """The outputs of a layer's graph for each of several inputs, among which are "states", one after the other."""
        import numpy as np

        def feed(outputs: Sequence[str], inputs: Mapping[str, Any], **others: Floats) -> list[Any]:
            mask = np.ones(inputs["states"].shape[:2], np.int64)
            return runner.feed(outputs, attention_mask=mask, **inputs, **others)

        mixture = self.architecture.mixture
        if mixture is None or not self.architecture.layers[layer].mixed:
            yield from (feed(outputs, inputs) for inputs in feeds)
            return
        listed = {weight.name: weight for weight in self.weights}
        mixed = Experts(mixture, self._weights, listed, _EXPERTS.format(layer))
        for some in _together(feeds):
            # What the graph makes of zeros for its experts' work is of no use, but for what comes before them.
            asked = [feed([SEEN, SCORES], inputs, **{MADE: np.zeros_like(inputs["states"])}) for inputs in some]
            seen, scores = (
                np.concatenate([each.reshape(-1, each.shape[-1]) for each in of]) for of in zip(*asked, strict=True)
            )
            del asked
            made = mixed.mix(seen, scores)
            at = 0
            for inputs in some:
                shape = inputs["states"].shape
                own = made[at : at + shape[0] * shape[1]]
                at += len(own)
                yield feed(outputs, inputs, **{MADE: own.reshape(shape)})

    def _open(self, layer: int, observed: Sequence[str]) -> onnx_model.Runner:
        norm = [weight for weight in self.output if isinstance(weight, Vector)] if layer == self.layers - 1 else []
        weights = self.of_layer(layer) + norm
        layout = self.write(weights, {weight.name: "float32" for weight in weights if isinstance(weight, Matrix)})
        return self.open(graph.author_layer(self.architecture, layout, layer, observed))

    def spans(self) -> Iterator[tuple[int, int]]:
        """Where each text's positions begin and end."""
        ends = list(accumulate(map(len, self._sequences)))
        return zip([0, *ends], ends, strict=False)


def _together(feeds: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Inputs in groups of MIXED_POSITIONS positions or a little more."""
    group: list[Mapping[str, Any]] = []
    count = 0
    for inputs in feeds:
        group.append(inputs)
        count += inputs["states"].shape[0] * inputs["states"].shape[1]
        if count >= MIXED_POSITIONS:
            yield group
            group, count = [], 0
    if group:
        yield group
