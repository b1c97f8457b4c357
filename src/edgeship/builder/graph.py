"""A decoder as an ONNX graph, authored node by node, in the operators that ONNX Runtime has fast kernels for.

Shapes: b sequences of s new tokens each, t tokens with those before; d the model's width. The graph takes what
onnxruntime-genai gives a decoder (token ids [b, s], attention mask [b, t], keys and values of the tokens before) and
gives logits of the last position [b, 1, vocabulary] and the keys and values of all. Whatever follows the attention of
the last layer that has keys and values of its own is computed for the last position alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

from edgeship.builder import beside, gated_delta, mamba, per_layer, routing, short_convolution
from edgeship.builder.activation import activated
from edgeship.builder.attention import Attention
from edgeship.builder.layout import EMBEDDING, Layout, output_name
from edgeship.builder.nodes import Model, Nodes, Value
from edgeship.builder.recurrence import GatedDelta, ShortConvolution

if TYPE_CHECKING:
    from edgeship.builder.architecture import Architecture


_KEYS_AND_VALUES = 2


def author(architecture: Architecture, layout: Layout, *, accuracy_level: int) -> Model:
    """The graph over a data file that is laid out so. accuracy_level: 4 multiplies in int8, 1 in float32."""
    return _Author(architecture, layout, accuracy_level).model()


def author_layer(
    architecture: Architecture, layout: Layout, index: int, observed: Sequence[str] = (), *, switched: bool = False
) -> Model:
    """One layer alone, in float32: "states" float32 [b, s, d] and "attention_mask" to "states_after".

    What the layer needs of others are inputs as `beside` names them, and what others need of it are outputs.

    observed: matrices whose inputs are outputs too, float32 [b, s, width] called "observed.NAME". The output layer's,
    under the name that its matrix has in the layout of the whole, are those of the last layer's graph. Experts that the
    layout does not have are left out: see `nodes.Nodes.experts`.

    switched: for a layout that holds matrices twice, the second time under `coarse(name)`. There is one more input
    "coarse", bool [matrices that are there twice, in the layout's order]: those that are true use the second.
    """
    return _Author(architecture, layout, 1, observed, switched=switched).layer(index)


def author_output(architecture: Architecture, layout: Layout) -> Model:
    """The last norm and the output layer, which the layout holds twice: "states" and "coarse" to "logits" [b, s, v].

    v: the rows of the output layer that the layout has, all or some.
    """
    return _Author(architecture, layout, 4, switched=True).output()


class _Author:
    """Puts a decoder's parts together. Every method adds to the graph and returns the value that it made."""

    def __init__(
        self,
        architecture: Architecture,
        layout: Layout,
        accuracy_level: int,
        observed: Sequence[str] = (),
        *,
        switched: bool = False,
    ) -> None:
        self._architecture = architecture
        self._nodes = Nodes(
            layout,
            norm_epsilon=architecture.norm_epsilon,
            accuracy_level=accuracy_level,
            centred=architecture.traits.centred_norms,
            unweighted=architecture.sizes.hidden_size if architecture.traits.unweighted_norms else 0,
            observed=observed,
            switched=switched,
        )

    def model(self) -> Model:
        """See author."""
        sizes = self._architecture.sizes
        tokens = self._nodes.input("input_ids", "INT64", ["batch", "sequence"])
        mask = self._nodes.input("attention_mask", "INT64", ["batch", "total"])
        attention = Attention(self._nodes, self._architecture, tokens, mask)
        inputs, outputs = [tokens, mask], []
        residual = self._nodes.times(self._nodes.rows(EMBEDDING, tokens), self._architecture.embedding_scale)
        brought: list[Value] = [None] * sizes.layers
        if self._architecture.per_layer_width:
            brought = per_layer.brought(self._nodes, self._architecture, tokens, residual)
        # The last one that remembers anything: of what follows, logits alone are made.
        remembers = max(index for index in range(sizes.layers) if self._kept(index, "past"))
        branch = None
        for index, own in enumerate(brought):
            past = self._past(index)
            inputs += past
            own = own if own is None else self._nodes.last(own, only=index >= remembers)
            only_last = index == remembers
            residual, branch, present = self._layer(residual, branch, index, attention, past, own, only_last=only_last)
            outputs += present
        _, normed = self._nodes.add_norm(residual, branch, "norm")
        logits = self._logits(normed)
        logits.name = "logits"
        self._nodes.typed(logits, "FLOAT", ["batch", 1, sizes.vocab_size])
        return self._nodes.model(inputs, [logits, *outputs])

    def layer(self, index: int) -> Model:
        """See author_layer."""
        architecture = self._architecture
        shape: Sequence[int | str | None] = ["batch", "sequence", architecture.sizes.hidden_size]
        states = self._nodes.input("states", "FLOAT", shape)
        mask = self._nodes.input("attention_mask", "INT64", ["batch", "total"])
        attention = Attention(self._nodes, architecture, states, mask)
        brought = self._brought_alone()
        lent = attention.lent(index)
        own = brought[0] if brought else None
        residual, branch, present = self._layer(states, None, index, attention, [], own)
        after, normed = self._nodes.add_norm(residual, branch, "norm")
        self._nodes.observe(normed, output_name(architecture))
        after.name = "states_after"
        self._nodes.typed(after, "FLOAT", shape)
        inputs = [states, mask, *brought, *lent, *self._nodes.given, *self._nodes.switches]
        kept = present if beside.lends(architecture, index) else []
        return self._nodes.model(inputs, [after, *kept, *self._nodes.asked, *self._nodes.observed])

    def _brought_alone(self) -> list[Value]:
        """What tokens bring for one layer, as an input of its graph, where they do."""
        width = self._architecture.per_layer_width
        return [self._nodes.input(beside.BROUGHT, "FLOAT", ["batch", "sequence", width])] if width else []

    def output(self) -> Model:
        """See author_output."""
        sizes = self._architecture.sizes
        states = self._nodes.input("states", "FLOAT", ["batch", "sequence", sizes.hidden_size])
        logits = self._logits(self._nodes.norm(states, "norm"))
        logits.name = "logits"
        self._nodes.typed(logits, "FLOAT", ["batch", "sequence", None])
        return self._nodes.model([states, *self._nodes.switches], [logits])

    # --- the parts of a decoder --------------------------------------------------------------------------------------

    def _layer(
        self,
        residual: Value,
        branch: Value | None,
        index: int,
        attention: Attention,
        past: list[Value],
        own: Value | None = None,
        *,
        only_last: bool = False,
    ) -> tuple[Value, Value | None, list[Value]]:
        """The residual, what is to be added to it, and what the layer remembers.

        own: what each token that goes on brings for the layer. only_last: the last one alone goes on.
        """
        name = f"layers.{index}"
        residual, normed = self._nodes.add_norm(residual, branch, f"{name}.attention_norm")
        branch, kept = self._mix(normed, index, attention, past, only_last=only_last)
        branch = self._added(branch, f"{name}.attention_post_norm")
        residual, after = self._nodes.add_norm(self._nodes.last(residual, only=only_last), branch, f"{name}.mlp_norm")
        normed = self._nodes.last(normed, only=only_last) if self._architecture.traits.parallel else after
        branch = self._added(self._transformed(normed, index), f"{name}.mlp_post_norm")
        return (*self._with_own(residual, branch, own, name), kept)

    def _with_own(
        self, residual: Value, branch: Value | None, own: Value | None, name: str
    ) -> tuple[Value, Value | None]:
        """What leaves a layer, with what tokens bring for it and by a number of its own, where it has these."""
        if own is not None:
            whole = self._nodes.op("Add", [residual, branch])
            residual, branch = per_layer.added(self._nodes, self._architecture, whole, own, name), None
        if self._nodes.has(f"{name}.scale"):
            whole = residual if branch is None else self._nodes.op("Add", [residual, branch])
            residual, branch = self._nodes.op("Mul", [whole, self._nodes.constant(f"{name}.scale")]), None
        return residual, branch

    def _mix(
        self, normed: Value, index: int, attention: Attention, past: list[Value], *, only_last: bool
    ) -> tuple[Value, list[Value]]:
        """What a layer makes of each token and those before it, and what it keeps of them."""
        layer, factors, name = self._architecture.layers[index], self._architecture.factors, f"layers.{index}"
        branches, present = [], []
        if layer.attends:
            seen = self._nodes.times(normed, factors.attention_in)
            mixed, made = attention.mix(seen, index, past[:_KEYS_AND_VALUES])
            branches.append(self._out(mixed, f"{name}.output", factors.attention_out, only_last=only_last))
            present += made
        if layer.recurs:
            seen = self._nodes.times(normed, factors.recurrence_in)
            mixed, made = self._recur(seen, name, past[_KEYS_AND_VALUES if layer.attends else 0 :])
            branches.append(self._out(mixed, f"{name}.recurrent_output", factors.recurrence_out, only_last=only_last))
            present += made
        kept = [
            self._nodes.named(f"present.{index}.{kind}", made, shape)
            for (kind, shape), made in zip(self._kept(index, "total").items(), present, strict=True)
        ]
        return reduce(lambda one, other: self._nodes.op("Add", [one, other]), branches), kept

    def _recur(self, normed: Value, name: str, past: list[Value]) -> tuple[Value, list[Value]]:
        recurrence = self._architecture.recurrence
        if isinstance(recurrence, GatedDelta):
            return gated_delta.mix(self._nodes, recurrence, normed, name, past)
        if isinstance(recurrence, ShortConvolution):
            return short_convolution.mix(self._nodes, recurrence, normed, name, past)
        assert recurrence is not None
        return mamba.mix(self._nodes, recurrence, normed, name, past)

    def _out(self, mixed: Value, name: str, factor: float, *, only_last: bool) -> Value:
        return self._nodes.times(self._nodes.linear(self._nodes.last(mixed, only=only_last), name), factor)

    def _past(self, index: int) -> list[Value]:
        """What a layer keeps of the tokens before, as inputs."""
        return [
            self._nodes.input(
                f"{'past_key_values' if kind in ('key', 'value') else 'past'}.{index}.{kind}", "FLOAT", shape
            )
            for kind, shape in self._kept(index, "past").items()
        ]

    def _kept(self, index: int, tokens: str) -> dict[str, list[int | str | None]]:
        """The shapes of what a layer keeps of so many tokens."""
        layer, recurrence = self._architecture.layers[index], self._architecture.recurrence
        found: dict[str, list[int | str | None]] = {}
        if layer.attends and layer.keys.of_layer is None:
            found |= {kind: ["batch", layer.keys.heads, tokens, layer.keys.size] for kind in ("key", "value")}
        if layer.recurs and recurrence is not None:
            found |= {kind: ["batch", *shape] for kind, shape in recurrence.states.items()}
        return found

    def _transformed(self, normed: Value, index: int) -> Value:
        """What a layer makes of each token by itself, float32 [b, s, d] -> [b, s, d]."""
        architecture, name = self._architecture, f"layers.{index}"
        if not architecture.layers[index].mixed or architecture.mixture is None:
            return self._mlp(normed, index)
        mixed = routing.mix(self._nodes, architecture.mixture, normed, name)
        return self._nodes.op("Add", [mixed, self._mlp(normed, index)]) if self._nodes.has(f"{name}.up") else mixed

    def _mlp(self, normed: Value, index: int) -> Value:
        """float32 [b, s, d] -> [b, s, d]."""
        name, factors = f"layers.{index}", self._architecture.factors
        up = self._nodes.linear(normed, f"{name}.up")
        if self._architecture.traits.gated:
            gate = self._nodes.times(self._nodes.linear(normed, f"{name}.gate"), factors.gate)
            up = self._nodes.op("Mul", [self._activated(gate, name), up])
        else:
            up = self._activated(up, name)
        return self._nodes.times(self._nodes.linear(up, f"{name}.down"), factors.down)

    def _activated(self, values: Value, layer: str) -> Value:
        return activated(self._nodes, self._architecture.activation, values, layer)

    def _logits(self, normed: Value) -> Value:
        logits = self._nodes.linear(normed, output_name(self._architecture))
        logits = self._nodes.times(logits, self._architecture.logit_scale)
        cap = self._architecture.logit_softcap
        if cap:
            logits = self._nodes.times(self._nodes.op("Tanh", [self._nodes.times(logits, 1 / cap)]), cap)
        return logits

    def _added(self, branch: Value, post_norm: str) -> Value:
        """What a block adds to the residual."""
        if self._nodes.has(post_norm):
            branch = self._nodes.norm(branch, post_norm)
        return self._nodes.times(branch, self._architecture.residual_scale)
