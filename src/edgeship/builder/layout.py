"""What a model's data file holds: every weight of the graph, how it is stored, and where.

The whole layout is known before a weight is read: offsets follow from shapes. That is what lets tensors be written one
at a time, in any order, and a build go on where it was killed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgeship.builder.architecture import Architecture
from edgeship.builder.quantize import Scheme
from edgeship.builder.recurrence import GatedDelta, Recurrence, ShortConvolution
from edgeship.checkpoint.families import USUAL_NAMES
from edgeship.errors import CheckpointInvalid

Shapes = Mapping[str, tuple[int, ...]]
Plain = Literal["float32", "float16"]
Storage = Scheme | Plain
"""How a matrix is stored: in blocks of integers, or as plain numbers."""

ITEM_BYTES = {"float32": 4, "float16": 2, "uint8": 1}
ALIGNMENT = 64
"""Bytes: every tensor begins at a multiple of a cache line, so that it can be used where the file is mapped."""

EMBEDDING, HEAD = "embedding", "head"
XIELU = ("alpha_p", "alpha_n", "beta", "eps")
"""The numbers of the activation that is trained with the matrices around it."""
PER_LAYER = "per_layer."
"""What the names of weights begin with, of a layer or of all, that make of a token what it brings for each layer."""


@dataclass(frozen=True)
class Part:
    """Rows `start` to `stop` of one tensor of the checkpoint; a vector's elements count as rows."""

    tensor: str
    start: int
    stop: int


@dataclass(frozen=True)
class Matrix:
    """One matrix of the graph, [rows, width] with a row for each output, its parts on top of each other.

    exact: float32 in every precision, since it is small and what it makes is added up over all tokens.
    """

    name: str
    parts: tuple[Part, ...]
    width: int
    exact: bool = False

    @property
    def rows(self) -> int:
        """Outputs."""
        return sum(part.stop - part.start for part in self.parts)


@dataclass(frozen=True)
class Vector:
    """Norm weights, biases and kernels of convolutions, always float32.

    added: to every element, since Gemma stores norms less one. item: the shape of each element; () for numbers.
    """

    name: str
    parts: tuple[Part, ...]
    added: float = 0.0
    item: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Elements."""
        return sum(part.stop - part.start for part in self.parts)


@dataclass(frozen=True)
class Blob:
    """One tensor of the data file. offset: bytes from its start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Placed:
    """A weight with its place. blobs: plain values; or packed integers, scales and, if there are any, zero points."""

    weight: Matrix | Vector
    storage: Storage
    blobs: tuple[Blob, ...]


@dataclass(frozen=True)
class Layout:
    """All weights by name, in the file's order. size_bytes: of the data file."""

    weights: Mapping[str, Placed]
    size_bytes: int

    def __iter__(self) -> Iterator[Placed]:
        return iter(self.weights.values())


def output_name(architecture: Architecture) -> str:
    """What the matrix of the output layer is called: the embedding, where one matrix is both."""
    return EMBEDDING if architecture.tied else HEAD


def list_weights(architecture: Architecture, shapes: Shapes, where: str) -> tuple[Matrix | Vector, ...]:
    """The weights of a decoder's graph, first layer to last, made of the tensors of `shapes`.

    An embedding that is the output layer too stands where that would: what it multiplies is known last.
    Raises CheckpointInvalid for a tensor that is missing, or that is there and would not be used.
    """
    found = _Finder(architecture, shapes, where)
    prefix, traits = "model.", architecture.traits
    if not architecture.tied:
        found.matrix(EMBEDDING, f"{prefix}embed_tokens")
    if architecture.per_layer_width:
        found.matrix(f"{PER_LAYER}embedding", f"{prefix}embed_tokens_per_layer")
        found.linear(f"{PER_LAYER}projection", f"{prefix}per_layer_model_projection")
        found.norm(f"{PER_LAYER}norm", f"{prefix}per_layer_projection_norm")
    for index in range(architecture.sizes.layers):
        _list_layer(found, architecture, index, f"{prefix}layers.{index}.", f"layers.{index}.")
        if architecture.per_layer_width:
            _list_per_layer(found, f"{prefix}layers.{index}.", f"layers.{index}.")
    found.norm("norm", f"{prefix}{ {**USUAL_NAMES, **traits.names}['last_norm'] }")
    if architecture.tied:
        found.matrix(EMBEDDING, f"{prefix}embed_tokens")
    else:
        found.linear(HEAD, "lm_head")
    found.require_all_used()
    return tuple(found.weights)


def _list_layer(found: _Finder, architecture: Architecture, index: int, source: str, name: str) -> None:
    """The weights of one layer. source, name: what its names begin with in the checkpoint, and here."""
    traits = architecture.traits
    names = {**USUAL_NAMES, **({"mlp_norm": "post_attention_layernorm"} if traits.norms == "before" else {})}
    names |= traits.names

    def norm(role: str) -> None:
        found.norm(f"{name}{role}", f"{source}{names[role]}")

    if traits.norms != "after":
        norm("attention_norm")
    if architecture.layers[index].attends:
        _list_attention(found, architecture, index, names, source, name)
    if architecture.layers[index].recurs:
        _list_recurrence(found, architecture.recurrence, source, name)
    if traits.norms != "before":
        norm("attention_post_norm")
    if traits.norms != "after" and not traits.parallel:
        norm("mlp_norm")
    for half, half_name in enumerate(("gate", "up") if traits.gated else ("up",)):
        if "mlp" in traits.fused:
            found.linear(f"{name}{half_name}", f"{source}{names['gate_up']}", rows=_half(half))
        else:
            found.linear(f"{name}{half_name}", f"{source}{names[half_name]}")
    found.linear(f"{name}down", f"{source}{names['down']}")
    if architecture.activation == "xielu":
        for part in XIELU:
            found.vector(f"{name}xielu.{part}", f"{source}mlp.act_fn.{part}")
    if traits.norms != "before":
        norm("mlp_post_norm")
    found.vector_if_stored(f"{name}scale", f"{source}layer_scalar")


def _list_per_layer(found: _Finder, source: str, name: str) -> None:
    """The weights that add to a layer what each token brings for it."""
    found.linear(f"{name}{PER_LAYER}gate", f"{source}per_layer_input_gate")
    found.linear(f"{name}{PER_LAYER}output", f"{source}per_layer_projection")
    found.norm(f"{name}{PER_LAYER}norm", f"{source}post_per_layer_input_norm")


def _list_attention(
    found: _Finder, architecture: Architecture, index: int, names: Mapping[str, str], source: str, name: str
) -> None:
    traits, keys = architecture.traits, architecture.layers[index].keys
    attention = ["qkv_proj"] if "attention" in traits.fused else ["q_proj", "k_proj", "v_proj"]
    if keys.of_layer is not None:
        attention = ["q_proj"]
        # transformers stores these all the same in some checkpoints, and reads them nowhere.
        found.leave_out(*(f"{source}self_attn.{part}" for part in ("k_proj", "v_proj", "k_norm")))
    elif keys.are_values:
        attention = ["q_proj", "k_proj"]
    modules = [f"{source}self_attn.{part}" for part in attention]
    if traits.gated_attention:
        found.gated_queries(f"{name}qkv", *modules, heads=architecture.sizes.heads)
    else:
        found.linear(f"{name}qkv", *modules)
    if traits.head_norm:
        for role in ("query_norm", "key_norm") if keys.of_layer is None else ("query_norm",):
            found.norm(f"{name}{role}", f"{source}{names[role]}")
    found.linear(f"{name}output", f"{source}{names['output']}")


def _list_recurrence(found: _Finder, sizes: Recurrence | None, source: str, name: str) -> None:
    if isinstance(sizes, GatedDelta):
        source += "linear_attn."
        found.linear(f"{name}inputs", f"{source}in_proj_qkv", f"{source}in_proj_z")
        found.linear(f"{name}rates", f"{source}in_proj_a", f"{source}in_proj_b", exact=True)
        found.kernels(f"{name}convolution", f"{source}conv1d", sizes.taps)
        found.vector(f"{name}decay", f"{source}A_log")
        found.vector(f"{name}decay_bias", f"{source}dt_bias")
        found.vector(f"{name}gated_norm", f"{source}norm.weight")
    elif isinstance(sizes, ShortConvolution):
        source += "conv."
        found.linear(f"{name}inputs", f"{source}in_proj")
        found.kernels(f"{name}convolution", f"{source}conv", sizes.taps)
    elif sizes is not None:
        source += "mamba."
        found.linear(f"{name}inputs", f"{source}in_proj", rows=lambda count: (0, count - sizes.heads))
        found.linear(f"{name}rates", f"{source}in_proj", rows=lambda count: (count - sizes.heads, count), exact=True)
        found.kernels(f"{name}convolution", f"{source}conv1d", sizes.taps)
        found.vector(f"{name}decay", f"{source}A_log")
        found.vector(f"{name}step_bias", f"{source}dt_bias")
        found.vector(f"{name}passed", f"{source}D")
        if sizes.norm is not None:
            found.vector(f"{name}gated_norm", f"{source}norm.weight")
    found.linear(f"{name}recurrent_output", f"{source}out_proj")


Rows = Callable[[int], tuple[int, int]]
"""Of so many rows the first that is taken, and the one after the last."""


def _all_rows(count: int) -> tuple[int, int]:
    return 0, count


def _half(which: int) -> Rows:
    """The first (0) or the second (1)."""
    return lambda count: (which * count // 2, (which + 1) * count // 2)


class _Finder:
    """Collects weights and remembers which tensors they use."""

    def __init__(self, architecture: Architecture, shapes: Shapes, where: str) -> None:
        self.weights: list[Matrix | Vector] = []
        self._architecture, self._shapes, self._where = architecture, shapes, where
        self._used: set[str] = set()

    def linear(self, name: str, *modules: str, rows: Rows = _all_rows, exact: bool = False) -> None:
        """A matrix, and its bias where there is one. rows: those of each module's."""
        self.matrix(name, *modules, rows=rows, exact=exact)
        biases = [f"{module}.bias" for module in modules]
        if any(bias in self._shapes for bias in biases):
            self.weights.append(Vector(f"{name}.bias", self._parts(biases, rows)))

    def matrix(self, name: str, *modules: str, rows: Rows = _all_rows, exact: bool = False) -> None:
        """One without a bias."""
        tensors = [f"{module}.weight" for module in modules]
        shapes = [self._shape(tensor) for tensor in tensors]
        widths = {shape[-1] for shape in shapes}
        if any(len(shape) != 2 for shape in shapes) or len(widths) != 1:
            raise CheckpointInvalid(
                f"{', '.join(tensors)} are {shapes}, which do not stack to one matrix", where=self._where, hint=_OTHER
            )
        self.weights.append(Matrix(name, self._parts(tensors, rows), widths.pop(), exact))

    def gated_queries(self, name: str, queries: str, *others: str, heads: int) -> None:
        """One matrix of queries, of what the other modules make, and of the gates that are stored after each head."""
        self.linear(name, queries, *others)
        for place, weight in enumerate(self.weights):
            if weight.name in (name, f"{name}.bias"):
                stored, *rest = weight.parts
                pieces = _pieces_of(stored, 2 * heads)
                self.weights[place] = replace(weight, parts=(*pieces[::2], *rest, *pieces[1::2]))

    def norm(self, name: str, module: str) -> None:
        """The weight of a norm, and its bias where there is one."""
        self.vector(name, f"{module}.weight", self._architecture.traits.norm_offset)
        self.vector_if_stored(f"{name}.bias", f"{module}.bias")

    def vector(self, name: str, tensor: str, added: float = 0.0) -> None:
        """All numbers of a tensor."""
        self.weights.append(Vector(name, self._parts([tensor]), added))

    def kernels(self, name: str, module: str, taps: int) -> None:
        """Those of a convolution of each channel by itself, and its bias where there is one."""
        tensor = f"{module}.weight"
        if self._shape(tensor)[1:] != (1, taps):
            raise CheckpointInvalid(
                f"tensor {tensor} is {list(self._shape(tensor))}, and its kernels are of [1, {taps}]",
                where=self._where,
                hint=_OTHER,
            )
        self.weights.append(Vector(name, self._parts([tensor]), item=(1, taps)))
        if f"{module}.bias" in self._shapes:
            self.vector(f"{name}.bias", f"{module}.bias")

    def vector_if_stored(self, name: str, tensor: str) -> None:
        """All numbers of a tensor, where there is one."""
        if tensor in self._shapes:
            self.vector(name, tensor)

    def leave_out(self, *modules: str) -> None:
        """That these have no place is no fault."""
        self._used |= {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}

    def require_all_used(self) -> None:
        tied = {"lm_head.weight"} if self._architecture.tied else set()
        left = [
            name for name in self._shapes if name not in self._used | tied and not name.endswith("rotary_emb.inv_freq")
        ]
        if left:
            raise CheckpointInvalid(
                f"tensor {left[0]} has no place in {self._architecture.sizes.model_type}'s graph"
                + (f", nor have {len(left) - 1} others" if len(left) > 1 else ""),
                where=self._where,
                hint="It would be left out silently. Try --builder genai, or take the tensor out of the checkpoint.",
            )

    def _parts(self, tensors: Sequence[str], rows: Rows = _all_rows) -> tuple[Part, ...]:
        return tuple(Part(tensor, *rows(self._rows(tensor))) for tensor in tensors)

    def _rows(self, tensor: str) -> int:
        """Also of a single number, which may have no shape at all."""
        return (self._shape(tensor) or (1,))[0]

    def _shape(self, tensor: str) -> tuple[int, ...]:
        if tensor not in self._shapes:
            raise CheckpointInvalid(f"tensor {tensor} is missing", where=self._where, hint=_OTHER)
        self._used.add(tensor)
        return self._shapes[tensor]


def _pieces_of(part: Part, count: int) -> list[Part]:
    """So many parts of one size."""
    if (part.stop - part.start) % count:
        return [part]
    step = (part.stop - part.start) // count
    return [replace(part, start=start, stop=start + step) for start in range(part.start, part.stop, step)]


def lay_out(weights: Sequence[Matrix | Vector], storage: Mapping[str, Storage]) -> Layout:
    """Places every weight. `storage`: of each matrix, by name."""
    placed: dict[str, Placed] = {}
    position = 0
    for weight in weights:
        how: Storage = storage[weight.name] if isinstance(weight, Matrix) else "float32"
        blobs = []
        for name, dtype, shape in _pieces(weight, how):
            position += -position % ALIGNMENT
            blobs.append(Blob(name, dtype, shape, position))
            position += blobs[-1].nbytes
        placed[weight.name] = Placed(weight, how, tuple(blobs))
    return Layout(placed, position)


def _pieces(weight: Matrix | Vector, storage: Storage) -> list[tuple[str, str, tuple[int, ...]]]:
    if isinstance(weight, Vector):
        return [(weight.name, "float32", (weight.size, *weight.item))]
    if not isinstance(storage, Scheme):
        return [(weight.name, storage, (weight.rows, weight.width))]
    blocks = -(-weight.width // storage.block_size)
    pieces = [
        (f"{weight.name}.packed", "uint8", (weight.rows, blocks, storage.block_size * storage.bits // 8)),
        (f"{weight.name}.scales", "float16", (weight.rows, blocks)),
    ]
    if not storage.symmetric:
        pieces.append((f"{weight.name}.zero_points", "uint8", (weight.rows, -(-blocks * storage.bits // 8))))
    return pieces


def matrix_bytes(matrix: Matrix, storage: Storage) -> int:
    """What a matrix takes in the file, without alignment."""
    return sum(math.prod(shape) * ITEM_BYTES[dtype] for _, dtype, shape in _pieces(matrix, storage))


_OTHER = "config.json and the weights are of different models: take both from the same one."
