"""What an adapter changes of a mixture's experts, by the tensors that the base has for them.

People train experts as parameters that hold all those of a layer (transformers 5), or as a module for each matrix
(earlier versions, Unsloth). Bases store them together or apart as well, and every adapter fits both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgeship.checkpoint.adapter import (
    CONFIG_NAME,
    MERGE_YOURSELF,
    SAME_RUN,
    Adapter,
    Change,
    ExpertChange,
    ExpertPair,
    LoraPair,
    Shape,
    another_base,
    find_changes,
    rank_and_scale,
    refuse,
)
from edgeship.checkpoint.traits import USUAL_NAMES, Traits

Role = Literal["gate_up", "gate", "up", "down"]
Shapes = Mapping[str, Shape]
_IN_LAYER = re.compile(r"(?P<layer>.+\.layers\.\d+\.)(?:mlp|block_sparse_moe|feed_forward)\.(?P<inside>.+)")
_ROUTER = re.compile(r"(?:gate|router|router\.layer)\.(?P<parameter>weight|bias)")
_OF_ALL = re.compile(r"experts\.(?P<role>gate_up|down)_proj")
_NUMBER = "0|[1-9][0-9]{0,8}"
_OF_ONE = re.compile(rf"experts\.(?:(?P<number>{_NUMBER})\.(?P<name>\w+)|(?P<list>\w+)\.(?P<place>{_NUMBER}))\.\w+")
_ROLES: Mapping[str, Role] = {
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    "w1": "gate",
    "w3": "up",
    "w2": "down",
    # Lists of modules, in which Unsloth keeps GPT-OSS's experts where bitsandbytes quantizes them.
    "gate_up_projs": "gate_up",
    "down_projs": "down",
}
# The parameter of all experts is [experts, a, b]. Before PEFT 0.19.0 a was taken for the inputs whatever the module
# does; 0.19.0 asked the module and understood it the wrong way round.
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_ASKED, _UNDERSTOOD = (0, 19, 0), (0, 19, 1)


@dataclass(frozen=True)
class _Experts:
    """Those of one layer as a base stores them. hidden, inner: the width of what goes in, and of what is between.

    together: the tensors of all gates and what goes up, and of all that goes down; None where they are apart.
    apart: what the names of one expert's matrices are, with {} for its number.
    """

    count: int
    hidden: int
    inner: int
    together: tuple[str, str] | None
    apart: Mapping[Role, str]

    def shape(self, role: Role) -> tuple[int, int]:
        """Outputs and inputs of one expert's matrix."""
        outputs = {"gate_up": 2 * self.inner, "down": self.hidden}.get(role, self.inner)
        return outputs, self.inner if role == "down" else self.hidden

    def places(self, role: Role, expert: int) -> Iterator[tuple[str, Role, int, int, int]]:
        """The tensors that hold one expert's matrix, or a part of it.

        Name, what their matrices are, which of these it is, the first of its outputs, and which of the matrix that is.
        """
        if self.together is not None:
            whole: Role = "down" if role == "down" else "gate_up"
            yield self.together[role == "down"], whole, expert, self.inner if role == "up" else 0, 0
        elif role == "gate_up":
            yield self.apart["gate"].format(expert), "gate", 0, 0, 0
            yield self.apart["up"].format(expert), "up", 0, 0, self.inner
        else:
            yield self.apart[role].format(expert), role, 0, 0, 0


@dataclass(frozen=True)
class _Trained:
    """A pair that is of experts. number: of the one expert; None for all of the layer."""

    pair: LoraPair
    scale: float
    role: Role
    number: int | None
    experts: _Experts

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of one matrix."""
        return self.experts.shape(self.role)


def place_changes(adapter: Adapter, base: Shapes, traits: Traits | None) -> dict[str, Change]:
    """What the adapter does, by the tensors of a base of these shapes, so far as it has them.

    traits: of the base's family. Raises AdapterInvalid for experts of other shapes, and for what cannot be merged.
    """
    changes = find_changes(adapter)
    if traits is None or traits.routing is None:
        return changes
    found: dict[str, Change] = {}
    trained = []
    for target, change in changes.items():
        match = _IN_LAYER.fullmatch(target)
        experts = _stored_experts(match["layer"], base, traits) if match else None
        if match is None or experts is None or len(base.get(target, ())) == 2:
            found[target] = change
        elif router := _ROUTER.fullmatch(match["inside"]):
            found[f"{match['layer']}{_names(traits)['router']}.{router['parameter']}"] = change
        elif change.pair is None or (which := _which(match["inside"], target, experts)) is None:
            found[target] = change
        elif traits.turned_experts and which[0] in ("gate", "up"):
            found[target] = change  # no module has one of them: they are by turns
        else:
            _require_plain(adapter, target, change)
            trained.append(_Trained(change.pair, change.scale, *which, experts))
    swapped = _are_swapped(adapter, trained, traits)
    for tensor, experts_change in _placed(adapter, trained, base, traits, swapped=swapped).items():
        found[tensor] = replace(found.get(tensor, Change()), experts=experts_change)
    return found


def _names(traits: Traits) -> Mapping[str, str]:
    return {**USUAL_NAMES, **traits.names}


def _stored_experts(layer: str, base: Shapes, traits: Traits) -> _Experts | None:
    """How a base stores the experts of a layer; None where it has none there."""
    names = _names(traits)
    router = base.get(f"{layer}{names['router']}.weight", ())
    if len(router) != 2 or not router[0]:
        return None
    count, hidden = router
    above, below = f"{layer}{names['experts_gate_up']}", f"{layer}{names['experts_down']}"
    ends: Mapping[Role, str] = {"gate": "expert_gate", "up": "expert_up", "down": "expert_down"}
    apart = {role: f"{layer}{names['experts']}.{{}}.{names[end]}.weight" for role, end in ends.items()}
    for packed in ("", "_blocks"):
        shape = base.get(f"{above}{packed}")
        if shape:
            inner = _outputs(shape, count, hidden, turned=traits.turned_experts and not packed) // 2
            return _Experts(count, hidden, inner, (f"{above}{packed}", f"{below}{packed}"), apart)
    first = base.get(apart["gate"].format(0))
    return _Experts(count, hidden, first[0], None, apart) if first else None


def _outputs(shape: Shape, count: int, inputs: int, *, turned: bool) -> int:
    """Of one of the matrices that a tensor holds, by themselves or in one on top of each other."""
    if len(shape) < 3:
        return shape[0] // count
    return shape[-1] if turned or shape[-1] != inputs else shape[-2]


def _which(inside: str, target: str, experts: _Experts) -> tuple[Role, int | None] | None:
    """What is trained, and of which expert, None for all; None where it is of no expert."""
    of_all = _OF_ALL.fullmatch(inside)
    if of_all or target in (experts.together or ()):
        down = of_all["role"] == "down" if of_all else experts.together is not None and target == experts.together[1]
        return ("down" if down else "gate_up"), None
    of_one = _OF_ONE.fullmatch(inside)
    role = _ROLES.get(of_one["name"] or of_one["list"]) if of_one else None
    return (role, int(of_one["number"] or of_one["place"])) if of_one and role else None


def _require_plain(adapter: Adapter, target: str, change: Change) -> None:
    if adapter.use_dora or change.magnitude or change.replacement:
        what = f"it was trained as DoRA on {target}, which the base does not store by itself"
        if change.replacement:
            what = f"it holds {change.replacement}, and the base does not store {target} by itself"
        raise refuse(adapter, what, _NO_DORA)


def _are_swapped(adapter: Adapter, trained: Sequence[_Trained], traits: Traits) -> bool:
    """Whether lora_A has the outputs of experts that were trained together, and lora_B their inputs.

    Any matrix that is not square tells; else the version of PEFT does.
    """
    together = [each for each in trained if each.number is None]
    for each in together:
        outputs, inputs = each.shape
        if outputs != inputs:
            return _made(adapter, each.pair) == (inputs, outputs)
    if not together:
        return False
    stated = adapter.config.get("peft_version")  # which it writes since 0.18
    match = _VERSION.match(stated) if isinstance(stated, str) else None
    version = tuple(map(int, match.groups())) if match else (0, 0, 0)
    if _ASKED <= version < _UNDERSTOOD:
        what = f"PEFT 0.19.0 saved it, and {together[0].pair.weight} is square: its factors may be either way round"
        raise refuse(adapter, what, f"{MERGE_YOURSELF} Do it with that version.")
    return version < _ASKED and not traits.turned_experts


def _made(adapter: Adapter, pair: LoraPair) -> tuple[int, int]:
    """The outputs and inputs of what a pair makes."""
    return adapter.tensors[pair.b][0], adapter.tensors[pair.a][1]


def _placed(
    adapter: Adapter, trained: Sequence[_Trained], base: Shapes, traits: Traits, *, swapped: bool
) -> dict[str, ExpertChange]:
    """What is added to the matrices of each tensor. swapped: where all experts were trained together."""
    tensors: dict[str, ExpertChange] = {}
    pairs: dict[str, list[ExpertPair]] = {}
    for each in trained:
        together, count = each.number is None, each.experts.count
        _check_pair(adapter, each, swapped=swapped and together)
        for expert in range(count) if each.number is None else [each.number]:
            for tensor, role, matrix, start, first in each.experts.places(each.role, expert):
                if tensor not in tensors:
                    tensors[tensor] = _matrices(adapter, each.experts, tensor, role, base, traits)
                pair = ExpertPair(
                    each.pair,
                    each.scale,
                    matrix,
                    (start, start + min(each.shape[0], tensors[tensor].outputs)),
                    expert=expert if together else 0,
                    experts=count if together else 1,
                    first=first,
                    swapped=swapped and together,
                )
                pairs.setdefault(tensor, []).append(pair)
    return {tensor: replace(change, pairs=tuple(pairs[tensor])) for tensor, change in tensors.items()}


def _check_pair(adapter: Adapter, each: _Trained, *, swapped: bool) -> None:
    """Compares the factors with the matrices that they change."""
    rank, _ = rank_and_scale(adapter, each.pair.trained)
    rows = rank * (each.experts.count if each.number is None else 1)
    found = adapter.tensors[each.pair.a]
    made, wanted = _made(adapter, each.pair), each.shape[::-1] if swapped else each.shape
    if each.number is not None and each.number >= each.experts.count:
        what = f"it changes {each.pair.module}, and this one has {each.experts.count} experts"
        raise another_base(adapter, what)
    if made != wanted:
        what = f"{each.pair.a} and its lora_B make {list(made)} of each expert, whose {each.role} is {list(wanted)}"
        raise another_base(adapter, what)
    if found[0] != rows:
        experts = f", times {each.experts.count} experts" if each.number is None else ""
        fault = f"{list(found)}, but {CONFIG_NAME} gives {each.pair.trained} the rank {rank}{experts}"
        raise refuse(adapter, f"{each.pair.a} is {fault}", SAME_RUN)


def _matrices(
    adapter: Adapter, experts: _Experts, tensor: str, role: Role, base: Shapes, traits: Traits
) -> ExpertChange:
    """The matrices of a tensor, to which nothing is added yet."""
    outputs, inputs = experts.shape(role)
    count = experts.count if experts.together else 1
    shape = base.get(tensor, ())
    if math.prod(shape) != count * outputs * inputs:
        what = f"{tensor} is {list(shape)}, and the other experts make it {count} of {[outputs, inputs]}"
        raise another_base(adapter, what)
    inputs_first = len(shape) == 3 and (traits.turned_experts or shape[-1] != inputs)
    return ExpertChange(outputs, inputs_first, ())


_NO_DORA = f"That can be merged where the base stores each expert's matrices by themselves. {MERGE_YOURSELF}"
