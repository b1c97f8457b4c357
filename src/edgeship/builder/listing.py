"""Which weights the graph of a decoder has, and of which tensors of the checkpoint each is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from edgeship.builder.architecture import Architecture
from edgeship.builder.layout import EMBEDDING, HEAD, PER_LAYER, XIELU, Matrix, Part, Shapes, Stack, Vector
from edgeship.builder.mixture import Mixture
from edgeship.builder.recurrence import GatedDelta, Recurrence, ShortConvolution
from edgeship.builder.weight_sizes import OTHER_MODEL, check_sizes
from edgeship.checkpoint.traits import USUAL_NAMES, Traits
from edgeship.errors import CheckpointInvalid


def list_weights(architecture: Architecture, shapes: Shapes, where: str) -> tuple[Matrix | Vector, ...]:
    """The weights of a decoder's graph, first layer to last, made of the tensors of `shapes`.

    An embedding that is the output layer too stands where that would: what it multiplies is known last.
    Raises CheckpointInvalid for a tensor that is missing, that is there and would not be used, or that has another size
    than config.json says.
    """
    found = _Finder(architecture, shapes, where)
    prefix, traits = "model.", architecture.traits
    if not architecture.tied:
        found.matrix(EMBEDDING, f"{prefix}embed_tokens")
    if architecture.per_layer_width:
        found.matrix(f"{PER_LAYER}embedding", f"{prefix}embed_tokens_per_layer")
        found.linear(f"{PER_LAYER}projection", f"{prefix}per_layer_model_projection")
        found.norm(f"{PER_LAYER}norm", f"{prefix}per_layer_projection_norm")
    for index, stored in enumerate(architecture.sizes.stored_layers):
        _list_layer(found, architecture, index, f"{prefix}layers.{stored}.", f"layers.{index}.")
        if architecture.per_layer_width:
            _list_per_layer(found, f"{prefix}layers.{stored}.", f"layers.{index}.")
    found.norm("norm", f"{prefix}{_names(traits)['last_norm']}")
    if architecture.tied:
        found.matrix(EMBEDDING, f"{prefix}embed_tokens")
    else:
        found.linear(HEAD, "lm_head")
    found.require_all_used()
    check_sizes(architecture, found.weights, shapes, where)
    return tuple(found.weights)


def _names(traits: Traits) -> Mapping[str, str]:
    """What a family calls the modules of a layer, by our names for them."""
    before = {"mlp_norm": "post_attention_layernorm"} if traits.norms == "before" else {}
    return {**USUAL_NAMES, **before, **traits.names}


def _list_layer(found: _Finder, architecture: Architecture, index: int, source: str, name: str) -> None:
    """The weights of one layer. source, name: what its names begin with in the checkpoint, and here."""
    traits = architecture.traits
    names = _names(traits)

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
    if architecture.layers[index].mixed and architecture.mixture:
        if traits.turned_experts:
            _list_turned_experts(found, architecture.mixture, names, source, name)
        else:
            _list_experts(found, architecture.mixture, names, source, name)
    if traits.mlp_beside or not architecture.layers[index].mixed:
        _list_mlp(found, architecture, names, source, name)
    if traits.norms != "before":
        norm("mlp_post_norm")
    found.vector_if_stored(f"{name}scale", f"{source}layer_scalar")


def _list_mlp(found: _Finder, architecture: Architecture, names: Mapping[str, str], source: str, name: str) -> None:
    traits = architecture.traits
    for half, half_name in enumerate(("gate", "up") if traits.gated else ("up",)):
        if "mlp" in traits.fused:
            found.linear(f"{name}{half_name}", f"{source}{names['gate_up']}", rows=_half(half))
        else:
            found.linear(f"{name}{half_name}", f"{source}{names[half_name]}")
    found.linear(f"{name}down", f"{source}{names['down']}")
    if architecture.activation == "xielu":
        for part in XIELU:
            found.vector(f"{name}xielu.{part}", f"{source}mlp.act_fn.{part}")


def _list_experts(found: _Finder, mixture: Mixture, names: Mapping[str, str], source: str, name: str) -> None:
    """The router, and two stacks: of experts' gates and what goes up, row by row in turns, and of what goes down."""
    found.linear(f"{name}router", f"{source}{names['router']}", exact=True)
    if "router_offset" in names:
        found.vector_if_stored(f"{name}router_offset", f"{source}{names['router_offset']}")
    gates, ups, downs = (
        [f"{source}{names['experts']}.{expert}.{names[role]}.weight" for expert in range(mixture.experts)]
        for role in ("expert_gate", "expert_up", "expert_down")
    )
    together = f"{source}{names['experts_gate_up']}"
    if together in found:
        gates = ups = [together]
        downs = [f"{source}{names['experts_down']}"]
    found.experts(f"{name}experts.", gates, ups, downs, mixture.experts)


def _list_turned_experts(found: _Finder, mixture: Mixture, names: Mapping[str, str], source: str, name: str) -> None:
    """The same where they are stored [in, out], and have biases."""
    found.linear(f"{name}router", f"{source}{names['router']}", exact=True)
    above, below = (f"{source}{names[role]}" for role in ("experts_gate_up", "experts_down"))
    found.turned_experts(f"{name}experts.", above, below, mixture.experts)
    for role, tensor in (("gate_up", above), ("down", below)):
        found.rows(f"{name}experts.{role}.bias", f"{tensor}_bias")


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
    if traits.sinks:
        found.vector(f"{name}sinks", f"{source}self_attn.sinks")
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

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._shapes

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
                f"{', '.join(tensors)} are {shapes}, which do not stack to one matrix",
                where=self._where,
                hint=OTHER_MODEL,
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
        if self._architecture.traits.unweighted_norms:
            return
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
                hint=OTHER_MODEL,
            )
        self.weights.append(Vector(name, self._parts([tensor]), item=(1, taps)))
        if f"{module}.bias" in self._shapes:
            self.vector(f"{name}.bias", f"{module}.bias")

    def experts(self, name: str, gates: Sequence[str], ups: Sequence[str], downs: Sequence[str], count: int) -> None:
        """The two stacks of a mixture, of so many experts.

        Each has three tensors; or there is one of all gates and what goes up after them, named twice, and one for down.
        The latter may be stored [in, out], which their shapes tell.
        """
        hidden, together = self._architecture.sizes.hidden_size, gates == ups
        *_, rows, width = (0, 0, *self._shape(gates[0]))
        turned = together and width != hidden
        rows = width if turned else rows
        inner = rows // 2 if together else rows
        down_turned = together and (0, *self._shape(downs[0]))[-1] != inner
        outputs = 2 * inner if together else inner
        above = (hidden, outputs) if turned else (outputs, hidden)
        after = (inner, hidden) if down_turned else (hidden, inner)
        for tensors, shape in ((gates, above), (ups, above), (downs, after)):
            for tensor in tensors:
                self._expect(tensor, (count, *shape) if together else shape)
        stack = Stack(count, math.gcd(hidden, inner))
        sides, below = [], []
        for expert in range(count):
            which, first, second = (0, expert * rows, expert * rows + inner) if together else (expert, 0, 0)
            sides.append(Part(gates[which], first, first + inner, (ups[which], second), turned))
            first = expert * hidden if together else 0
            below.append(Part(downs[which], first, first + hidden, turned=down_turned))
        self.weights.append(Matrix(f"{name}gate_up", tuple(sides), hidden, stack=stack))
        self.weights.append(Matrix(f"{name}down", tuple(below), inner, stack=stack))

    def turned_experts(self, name: str, above: str, below: str, count: int) -> None:
        """The two stacks of a mixture whose matrices are stored [in, out], the first with gates and others by turns.

        In MXFP4 they are not: those are read as rows, on top of each other.
        """
        hidden, turned = self._architecture.sizes.hidden_size, f"{above}_blocks" not in self
        if turned:
            inner = (0, *self._shape(above))[-1] // 2
            self._expect(above, (count, hidden, 2 * inner))
            self._expect(below, (count, inner, hidden))
        else:
            above, below = f"{above}_blocks", f"{below}_blocks"
            inner = self._shape(above)[0] // (2 * count)
            self._expect(above, (count * 2 * inner, hidden))
            self._expect(below, (count * hidden, inner))
        stack, rows = Stack(count, math.gcd(hidden, inner)), 2 * inner
        for role, tensor, outputs, width in (("gate_up", above, rows, hidden), ("down", below, hidden, inner)):
            firsts = range(0, count * outputs, outputs)
            parts = tuple(Part(tensor, first, first + outputs, turned=turned) for first in firsts)
            self.weights.append(Matrix(f"{name}{role}", parts, width, stack=stack))

    def rows(self, name: str, tensor: str) -> None:
        """Vectors, one for each expert."""
        self.weights.append(Vector(name, self._parts([tensor]), item=self._shape(tensor)[1:]))

    def _expect(self, tensor: str, shape: tuple[int, ...]) -> None:
        if self._shape(tensor) != shape:
            raise CheckpointInvalid(
                f"tensor {tensor} is {list(self._shape(tensor))}, and other experts make it {list(shape)}",
                where=self._where,
                hint=OTHER_MODEL,
            )

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
            raise CheckpointInvalid(f"tensor {tensor} is missing", where=self._where, hint=OTHER_MODEL)
        shape = self._shapes[tensor]
        if 0 in shape:
            raise CheckpointInvalid(
                f"tensor {tensor} is {list(shape)}, which holds nothing", where=self._where, hint=OTHER_MODEL
            )
        self._used.add(tensor)
        return shape


def _pieces_of(part: Part, count: int) -> list[Part]:
    """So many parts of one size."""
    if (part.stop - part.start) % count:
        return [part]
    step = (part.stop - part.start) // count
    return [replace(part, start=start, stop=start + step) for start in range(part.start, part.stop, step)]
