"""What each matrix alone costs in quality when it has 4 bits, measured within the memory of one layer.

The hidden states that leave a layer with one of its matrices at 4 bits go their own way through the layers after it,
beside those of the checkpoint itself. At the end of all ways are predictions, and those are compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeship.builder import graph, nodes
from edgeship.builder.allocation import scheme
from edgeship.builder.layout import EMBEDDING, Layout, Matrix, Storage, Vector
from edgeship.builder.quantize import dequantize, quantize
from edgeship.progress import Progress, silent
from edgeship.recipe import Precision, Recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.builder.onnx_model import Runner
    from edgeship.builder.walk import Walk

    Floats = npt.NDArray[np.float32]

LOGITS = 8_000_000
"""Logits that are computed to see what one matrix costs: the larger the vocabulary, the fewer positions."""
TOKENS = (64, 1024)
"""But so many positions at least, and at most."""
UNBEARABLE = 1e6
"""Nats: more than any finite logits cost. A matrix that gives no numbers at 4 bits counts as costing this much."""
_FINE = Recipe(precision=Precision.INT8, block_size=32, method="rtn")
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
        own = _part(walk, switched, itself, names) if names else {}
        _advance(walk, walk.open(graph.author_layer(walk.architecture, layout, layer)), [itself, *ways.values()])
        ways |= own
    progress("calibrate: comparing predictions", 1.0)
    return _compare(walk, recipe, importance, itself, ways, kept)


def _part(walk: Walk, model: nodes.Model, itself: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """The states after a layer with each of its matrices at 4 bits; those before it are the checkpoint's own."""
    import numpy as np

    runner = walk.open(model)
    own = {name: itself.copy() for name in names}
    for at, states in enumerate(own.values()):
        _advance(walk, runner, [states], coarse=np.arange(len(names)) == at)
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


def _advance(walk: Walk, runner: Runner, ways: Sequence[Floats], **inputs: Any) -> None:
    """Each way's states become those after the layer."""
    import numpy as np

    for begin in range(0, len(ways), _ABREAST):
        abreast = ways[begin : begin + _ABREAST]
        for start, stop in walk.spans():
            states = np.stack([way[start:stop] for way in abreast])
            mask = np.ones(states.shape[:2], np.int64)
            [after] = runner.feed(["states_after"], states=states, attention_mask=mask, **inputs)
            for way, reached in zip(abreast, after, strict=True):
                way[start:stop] = reached


def _compare(
    walk: Walk,
    recipe: Recipe,
    importance: Mapping[str, Floats],
    itself: Floats,
    ways: Mapping[str, Floats],
    kept: Collection[str],
) -> dict[str, float]:
    """The mean KLD of the predictions at the end of each way."""
    import numpy as np

    layout, outputs = _write_twice(walk, walk.output, None, recipe, importance, kept)
    runner = walk.open(graph.author_output(walk.architecture, layout))

    def predict(states: Floats, *, low: bool = False) -> Floats:
        coarse = {"coarse": np.array([low])} if outputs else {}
        [logits] = runner.feed(["logits"], states=states[None], **coarse)
        return _log_softmax(logits[0])

    fine = predict(itself)
    chances = np.exp(fine)

    def cost(states: Floats, *, low: bool) -> float:
        return _mean_kld(chances, fine, predict(states, low=low))

    found = {name: cost(states, low=name in outputs) for name, states in ways.items()}
    return found | {output: cost(itself, low=True) for output in outputs if output != EMBEDDING}


def _log_softmax(logits: Floats) -> Floats:
    import numpy as np

    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dtype=np.float32)


def _mean_kld(chances: Floats, fine: Floats, low: Floats) -> float:
    """Of predictions `low` from `fine`, both logarithms of probabilities; chances: those of `fine` themselves."""
    import numpy as np

    found = float((chances * (fine - low)).sum(axis=-1).mean())
    return max(0.0, found) if np.isfinite(found) else UNBEARABLE
