"""A checkpoint's weights with its adapter merged, read a few rows at a time, without PyTorch.

The merged weights are float32 even where the base is not: LoRA was trained as an addition in higher precision, and
rounding the sum to bfloat16 would make another model than the one that was trained. For the same reason an embedding
and an output layer that the base ties are no longer tied where the adapter was trained on one of them alone: merging
into the matrix that they share would change the other as well.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgeship.builder.low_rank import ExpertLowRank, ExpertSums, LowRank
from edgeship.checkpoint import adapter as adapters
from edgeship.checkpoint import safetensors_file
from edgeship.checkpoint.adapter import HEAD, Adapter, Change, ExpertChange
from edgeship.checkpoint.adapter_experts import place_changes
from edgeship.checkpoint.adapter_fit import check_fits, stores_inputs_first
from edgeship.checkpoint.dimensions import DAMAGED, find_embedding
from edgeship.checkpoint.families import find_traits
from edgeship.checkpoint.generation import FILE_NAME as GENERATION_NAME
from edgeship.checkpoint.packed import Grid, Integers, Packed, Tensor, read, same
from edgeship.checkpoint.packed_integers import PackedIntegers
from edgeship.checkpoint.safetensors_file import FLOATS, LARGEST_WEIGHT, StoredTensor, read_columns, read_rows
from edgeship.errors import AdapterInvalid, CheckpointInvalid, PickleRefused
from edgeship.progress import Progress, silent
from edgeship.system import json_file
from edgeship.system.fields import shown
from edgeship.system.storage import bring

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeship.checkpoint import Checkpoint

    Array = npt.NDArray[np.float32]

_CHUNK_ELEMENTS = 1 << 20
_COPIED = (".json", ".jinja", ".model", ".txt")
# Ways to begin training that leave the base as it was; the others (PiSSA, OLoRA, LoftQ, ...) change it.
_HARMLESS_STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
_UNMERGEABLE = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
)


@dataclass(frozen=True)
class Source:
    """How one tensor is made: what is stored, plus the low rank or the bias, then some rows replaced.

    experts: what is added to the matrices of several experts.
    """

    stored: Tensor
    low_rank: LowRank | None = None
    experts: ExpertSums | None = None
    added: StoredTensor | None = None
    scale: float = 1.0
    tokens: tuple[int, ...] = ()
    token_rows: StoredTensor | None = None

    @property
    def changed(self) -> bool:
        """Whether it is another than what is stored."""
        return self.is_sum or self.token_rows is not None

    @property
    def is_sum(self) -> bool:
        """Whether something is added to what is stored."""
        return (self.low_rank, self.experts, self.added) != (None, None, None)


@dataclass(frozen=True)
class Weights:
    """A checkpoint's tensors with its adapter merged, read by rows; next to nothing is kept in memory.

    tied: whether the output layer still is the embedding. If not, "lm_head.weight" is one of the tensors.
    """

    sources: Mapping[str, Source]
    tied: bool
    _lengths: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of every tensor, after the adapter."""
        return {name: source.stored.shape for name, source in self.sources.items()}

    @functools.cached_property
    def grids(self) -> Mapping[str, Grid]:
        """Of those matrices that are quantized to integers and that the adapter leaves as they are."""
        found = {}
        for name, source in self.sources.items():
            grid = source.stored.grid if isinstance(source.stored, Packed) and not source.changed else None
            if grid is not None:
                found[name] = grid
        return found

    def integers(self, name: str, start: int, stop: int) -> Integers:
        """Rows of a matrix of `grids`, as they are kept. Raises WeightsDamaged, CheckpointInvalid for its scales."""
        stored = self.sources[name].stored
        assert isinstance(stored, PackedIntegers)
        return stored.integers(start, stop)

    def read(self, name: str) -> Array:
        """The whole tensor."""
        return self.rows(name)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Rows `start` to `stop` (a vector's elements) as float32 [stop - start, ...], finite, in memory of their own.

        Several threads may read at once.
        Raises WeightsDamaged that names the tensor for NaN, infinity or a size beyond 1e5 in what is stored,
        CheckpointInvalid for a tensor of no plain floats, AdapterInvalid where DoRA would divide by zero, or the sum
        with the adapter is as bad.
        """
        source = self.sources[name]
        stop = _row_count(source) if stop is None else stop
        values = _summed(source, start, stop)
        if source.low_rank is not None and source.low_rank.magnitude is not None:
            values *= self._factors(name, source.low_rank, values, start, stop)
        if source.token_rows is not None:
            for index, token in enumerate(source.tokens):
                if start <= token < stop:
                    values[token - start] = read_rows(source.token_rows, index, index + 1)[0]
        if source.is_sum:
            _require_plausible(values, name, source)
        return values

    def stacked(self, name: str, start: int, stop: int) -> Array:
        """Rows of a matrix, or of several that one tensor [n, rows, width] holds, on top of each other; see `rows`."""
        source = self.sources[name]
        rest = source.stored.shape[1:-1]
        if not rest:
            return self.rows(name, start, stop)
        flat = (source.stored.shape[0] * math.prod(rest), source.stored.shape[-1])
        assert source.experts is None or not source.experts.inputs_first, "they are read as they are stored"
        return self._with_experts(name, read(replace(source.stored, shape=flat), start, stop), start, stop)

    def columns(self, name: str, start: int, stop: int) -> Array:
        """Columns of one of the matrices [n, width, rows] of a tensor, counted through all: [stop - start, width].

        Only these are read. Raises what `rows` raises.
        """
        import numpy as np

        stored, experts = self.sources[name].stored, self.sources[name].experts
        assert isinstance(stored, StoredTensor), "no form of packed weights holds such matrices"
        assert experts is None or experts.inputs_first, "they are read the other way than they are stored"
        count, width, rows = stored.shape
        matrix, first = divmod(start, rows)
        nbytes = stored.nbytes // count
        one = replace(stored, shape=(width, rows), offset=stored.offset + matrix * nbytes, nbytes=nbytes)
        values = np.ascontiguousarray(read_columns(one, first, first + stop - start).T)
        return self._with_experts(name, values, start, stop)

    def _with_experts(self, name: str, values: Array, start: int, stop: int) -> Array:
        """Outputs of several matrices with what an adapter adds to them."""
        source = self.sources[name]
        if source.experts is not None:
            source.experts.add_to_outputs(values, start, stop)
            _require_plausible(values, name, source)
        return values

    def _factors(self, name: str, low_rank: LowRank, values: Array, start: int, stop: int) -> Array:
        """What DoRA multiplies these rows with: the trained lengths by those that the sum has."""
        import numpy as np

        assert low_rank.magnitude is not None
        if low_rank.transposed:
            lengths, wanted = self._column_lengths(name), read_rows(low_rank.magnitude)
        else:
            lengths, wanted = np.linalg.norm(values, axis=1), read_rows(low_rank.magnitude, start, stop)
        if not lengths.all():
            raise AdapterInvalid(
                f"{low_rank.magnitude.name} cannot be applied: {name} has an output of length zero",
                where=str(low_rank.magnitude.path),
                hint="Check that the adapter was trained on this base.",
            )
        factors: Array = wanted / lengths
        return factors if low_rank.transposed else factors[:, None]

    def _column_lengths(self, name: str) -> Array:
        """Of what stores [in, out]. They need all its rows, so they are kept. Two threads may both find them."""
        import numpy as np

        if name not in self._lengths:
            source = self.sources[name]
            squares = np.zeros(source.stored.shape[1], np.float64)
            for start, stop in _chunks(source):
                values = _summed(source, start, stop)
                squares += np.einsum("ij,ij->j", values, values, dtype=np.float64)
            self._lengths[name] = np.sqrt(squares).astype(np.float32)
        return self._lengths[name]


def open_weights(checkpoint: Checkpoint) -> Weights:
    """A checkpoint's weights; only headers are read, and of tied weights that are stored twice all bytes.

    Raises PickleRefused, AdapterInvalid for an adapter of another base or one that cannot be merged, naming the field,
    CheckpointInvalid for an lm_head.weight that is not the embedding though config.json ties them.
    """
    if checkpoint.pickle:
        raise PickleRefused(
            "weights can be read from safetensors only",
            where=str(checkpoint.folder),
            hint="Save the checkpoint again with save_pretrained, which writes safetensors.",
        )
    base = dict(checkpoint.tensors)
    shared = find_embedding(_shapes(base)) if checkpoint.tied_embeddings else None
    if shared is not None:
        _require_equal(base[shared], base.pop(HEAD, base[shared]))
    sources = {name: Source(tensor) for name, tensor in base.items()}
    adapter, tied = checkpoint.adapter, checkpoint.tied_embeddings
    if adapter is None:
        return Weights(sources, tied)
    check_mergeable(adapter)
    traits = find_traits(checkpoint.config)
    check_fits(adapter, _shapes(base), traits, tied=tied)
    stored = safetensors_file.read_header(adapter.files[1])
    changes = place_changes(adapter, _shapes(base), traits)
    if shared is not None:
        base[HEAD] = base[shared]
        changes |= _share(changes.get(shared, Change()), changes.get(HEAD, Change()), shared)
    sources |= {name: _make_source(adapter, change, base[name], stored) for name, change in changes.items()}
    if shared is not None:
        tied = _same(sources[shared], sources[HEAD])
        if tied:
            del sources[HEAD]
    return Weights(sources, tied)


def check_mergeable(adapter: Adapter) -> None:
    """Raises AdapterInvalid naming every field that asks for what cannot be merged, and a tensor of no known kind."""
    config = adapter.config
    faults = [f"{key} is set" for key in _UNMERGEABLE if config.get(key)]
    if config.get("init_lora_weights", True) not in _HARMLESS_STARTS:
        faults.append(f"init_lora_weights is {shown(config['init_lora_weights'])}, which changes the base")
    if faults:
        raise AdapterInvalid(
            f"this adapter cannot be merged yet: {'; '.join(faults)}",
            where=str(adapter.folder / adapters.CONFIG_NAME),
            hint=adapters.MERGE_YOURSELF,
        )
    adapters.find_changes(adapter)


def merge(checkpoint: Checkpoint, folder: Path, progress: Progress = silent) -> None:
    """Writes base + adapter as a float32 checkpoint: model.safetensors, config.json, the tokenizer's files.

    Raises what `open_weights` and `Weights.rows` raise.
    """
    weights = open_weights(checkpoint)
    for path in sorted(checkpoint.folder.iterdir()):
        if path.is_file() and path.suffix in _COPIED and not path.name.endswith(".index.json"):
            bring(path, folder / path.name)
    checkpoint.tokenizer.copy_to(folder)
    json_file.write_object(folder / GENERATION_NAME, checkpoint.generation)
    config = _merged_config(checkpoint, weights)
    json_file.write_object(folder / "config.json", config)
    with (folder / "model.safetensors").open("wb") as stream:
        _write_safetensors(stream, weights, progress)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _require_equal(embedding: Tensor, head: Tensor) -> None:
    if not same(embedding, head):
        raise CheckpointInvalid(
            f"tied weights that are not equal: config.json says tie_word_embeddings true, but {head.name} is not "
            f"{embedding.name}",
            where=str(head.path),
            hint="Set tie_word_embeddings to false if both were trained, else save the checkpoint again.",
        )


def _share(table: Change, head: Change, embedding: str) -> dict[str, Change]:
    """The changes to an embedding and a tied output layer, those to what they share given to both.

    They share the matrix, so what replaces it (unless it is one module's own copy), and by peft's rule trained tokens.
    """
    if table.token_rows and not head.token_rows and not head.replacement:
        head = replace(head, token_rows=table.token_rows, tokens=table.tokens)
    if table.replacement and not table.own and not head.replacement:
        head = replace(head, replacement=table.replacement)
    elif head.replacement and not head.own and not table.replacement:
        table = replace(table, replacement=head.replacement)
    return {embedding: table, HEAD: head}


def _make_source(adapter: Adapter, change: Change, base: Tensor, stored: Mapping[str, StoredTensor]) -> Source:
    tensor: Tensor = stored[change.replacement] if change.replacement else base
    low_rank = None
    if change.pair is not None:
        magnitude = stored[change.magnitude] if change.magnitude else None
        transposed = stores_inputs_first(adapter, change.pair, tensor.shape)
        low_rank = LowRank(stored[change.pair.a], stored[change.pair.b], change.scale, transposed, magnitude)
    return Source(
        stored=tensor,
        low_rank=low_rank,
        experts=_expert_sums(change.experts, stored) if change.experts else None,
        added=stored[change.added] if change.added else None,
        scale=change.experts.pairs[0].scale if change.experts else change.scale,
        tokens=change.tokens,
        token_rows=stored[change.token_rows] if change.token_rows else None,
    )


def _expert_sums(change: ExpertChange, stored: Mapping[str, StoredTensor]) -> ExpertSums:
    added: dict[int, list[ExpertLowRank]] = {}
    for each in change.pairs:
        part = ExpertLowRank(
            stored[each.pair.a],
            stored[each.pair.b],
            each.scale,
            expert=each.expert,
            experts=each.experts,
            outputs=each.outputs,
            first=each.first,
            swapped=each.swapped,
        )
        added.setdefault(each.matrix, []).append(part)
    return ExpertSums(change.outputs, change.inputs_first, added)


def _same(one: Source, other: Source) -> bool:
    """Whether two matrices come out equal, judged by what they are made of."""
    rows, other_rows = one.token_rows, other.token_rows
    return (
        same(one.stored, other.stored)
        and _same_sum(one, other)
        and one.tokens == other.tokens
        and (rows == other_rows or (rows is not None and other_rows is not None and same(rows, other_rows)))
    )


def _same_sum(one: Source, other: Source) -> bool:
    """Whether LoRA adds the same to both, be it stored as for an embedding or as for an output layer."""
    import numpy as np

    first, second = one.low_rank, other.low_rank
    if first is None or second is None:
        return first is second
    if first.magnitude or second.magnitude or first.scale != second.scale:
        return False
    return np.array_equal(first.right(), second.right()) and all(
        np.array_equal(first.left(*rows), second.left(*rows)) for rows in _chunks(one)
    )


def _row_count(source: Source) -> int:
    shape = source.stored.shape
    return shape[0] if shape else 1


def _chunks(source: Source) -> Iterator[tuple[int, int]]:
    """First and last row of chunks that have about as many elements as fit in a processor's cache."""
    rows = _row_count(source)
    step = max(1, _CHUNK_ELEMENTS * rows // max(1, source.stored.count))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def _summed(source: Source, start: int, stop: int) -> Array:
    """What is stored, plus what LoRA adds."""
    values = read(source.stored, start, stop)
    if source.low_rank is not None:
        values += source.low_rank.rows(start, stop)
    if source.experts is not None and len(source.stored.shape) > 2:
        source.experts.add_to_matrices(values, start, stop)
    elif source.experts is not None:
        source.experts.add_to_outputs(values, start, stop)
    if source.added is not None:
        values += read_rows(source.added, start, stop) * source.scale
    return values


def _require_plausible(values: Array, name: str, source: Source) -> None:
    """Raises AdapterInvalid for a sum that what is stored could not be: NaN, infinity or a size beyond 1e5."""
    import numpy as np

    largest = max(float(np.max(values, initial=0)), -float(np.min(values, initial=0)))
    if not largest <= LARGEST_WEIGHT:
        raise AdapterInvalid(
            f"with the adapter, whose scale is {source.scale:g}, {name} holds {largest:g} in size: "
            "no trained weight looks like that",
            where=str((source.low_rank.a if source.low_rank else source.stored).path),
            hint="Check alpha and rank in adapter_config.json, and that the training went well.",
        )


def _merged_config(checkpoint: Checkpoint, weights: Weights) -> dict[str, Any]:
    """config.json in float32, with what the adapter changed of the vocabulary."""
    config = json_file.read_object(checkpoint.folder / "config.json", DAMAGED)
    for key in ("torch_dtype", "quantization_config", "compression_config", "quantization"):
        config.pop(key, None)
    changed: dict[str, Any] = {"dtype": "float32"}
    if weights.tied != checkpoint.tied_embeddings:
        changed["tie_word_embeddings"] = weights.tied
    config |= changed
    nested = config.get("text_config")
    part = nested if isinstance(nested, dict) else config
    if isinstance(nested, dict):
        nested |= changed
    if part.get("vocab_size") != checkpoint.vocab_size:
        part["vocab_size"] = checkpoint.vocab_size
    return config


def _write_safetensors(stream: IO[bytes], weights: Weights, progress: Progress) -> None:
    """Floats as float32, other types as they are. The header can come first: all shapes are known."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, source in weights.sources.items():
        tensor = source.stored
        wide = isinstance(tensor, Packed) or tensor.dtype in FLOATS
        size = 4 * tensor.count if wide else tensor.nbytes
        offsets = [position, position + size]
        header[name] = {"dtype": "F32" if wide else tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        position += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    for name, source in weights.sources.items():
        for data in _pieces(weights, name, source):
            stream.write(data)
        progress("merge: writing weights", header[name]["data_offsets"][1] / position)


def _pieces(weights: Weights, name: str, source: Source) -> Iterator[bytes | memoryview]:
    tensor = source.stored
    if isinstance(tensor, Packed) or tensor.dtype in FLOATS:
        for start, stop in _chunks(source):
            yield weights.rows(name, start, stop).astype("<f4", copy=False).reshape(-1).view("u1").data
    else:
        for at in range(0, tensor.nbytes, _CHUNK_ELEMENTS):
            yield safetensors_file.read_bytes(tensor, at, _CHUNK_ELEMENTS)
