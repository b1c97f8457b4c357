"""Mixtures of experts: layers whose MLP is several, a few of which are chosen for each token."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.checkpoint.traits import Routing, Traits
from edgeship.system.fields import Fields

COUNTS = ("num_local_experts", "num_experts")
"""What config.json calls the number of experts."""
_MOST_EXPERTS = 1 << 14


@dataclass(frozen=True)
class Mixture:
    """The experts of a layer, and how tokens find theirs.

    chosen: experts of each token. routing: what the router's numbers become.
    normalised: the weights of those that are chosen add up to 1. scale: what comes out is multiplied by it.
    An expert makes of its gate g and of what goes up u: g * sigmoid(alpha * g) * (u + up_offset), with g no larger than
    limit and u neither, nor smaller than its negative; None for no limit.
    """

    experts: int
    chosen: int
    routing: Routing
    normalised: bool
    scale: float = 1.0
    alpha: float = 1.0
    up_offset: float = 0.0
    limit: float | None = None


def expert_count(config: Fields) -> int:
    """Experts in each layer that has some, as config.json says; 0 for none."""
    return next((count for name in COUNTS if (count := config.count(name, least=0, most=_MOST_EXPERTS))), 0)


def read_mixture(traits: Traits, config: Fields, activation: str) -> Mixture | None:
    """The mixture of a model; None where its layers have one MLP each. Raises CheckpointInvalid naming the field."""
    experts = expert_count(config)
    if traits.routing is None or not experts:
        return None
    if activation != "silu":
        raise config.refuse(f"has the activation {activation} in a mixture of experts, where silu alone is built")
    chosen = config.required_count("num_experts_per_tok")
    if chosen > experts:
        raise config.refuse(f"has num_experts_per_tok {chosen}, and {experts} experts")
    return Mixture(
        experts=experts,
        chosen=chosen,
        routing=traits.routing,
        normalised=bool(config.flag("norm_topk_prob")),
        scale=config.number("routed_scaling_factor", above=0) or 1.0,
        alpha=config.number("swiglu_alpha", above=0) or 1.0,
        up_offset=traits.up_offset,
        limit=config.number("swiglu_limit", above=0),
    )


def mixed_layers(traits: Traits, config: Fields, layers: int) -> list[bool]:
    """Whether each layer has experts."""
    if traits.routing is None or not expert_count(config):
        return [False] * layers
    dense = set(config.items("mlp_only_layers"))
    first, step = config.count("num_dense_layers", least=0) or 0, config.count("decoder_sparse_step") or 1
    return [index >= first and index not in dense and (index + 1) % step == 0 for index in range(layers)]
