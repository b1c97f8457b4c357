"""Whether an adapter belongs to a base: each of its tensors is held against the shape of what it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeship.checkpoint.adapter import (
    CONFIG_NAME,
    HEAD,
    MERGE_YOURSELF,
    SAME_RUN,
    TRAIN_AGAIN,
    Adapter,
    Change,
    LoraPair,
    Shape,
    another_base,
    rank_and_scale,
    refuse,
)
from edgeship.checkpoint.adapter_experts import place_changes
from edgeship.checkpoint.dimensions import find_embedding
from edgeship.checkpoint.traits import Traits
from edgeship.errors import AdapterInvalid

_SAVE_EMBEDDINGS = 'Both must be in the adapter: train it with modules_to_save=["embed_tokens", "lm_head"].'


def check_fits(
    adapter: Adapter, base: Mapping[str, Shape], traits: Traits | None = None, *, tied: bool = False
) -> dict[str, Shape]:
    """Compares the adapter with the shapes of a base's tensors; returns the shapes of those it changes, afterwards.

    traits: of the base's family, which say what its experts are called.
    The embedding and the output layer may get another number of rows. tied: the base's output layer is its embedding,
    which lm_head.weight then means as well.
    Raises AdapterInvalid naming the tensor and both shapes, or the module that the base lacks.
    """
    embedding = find_embedding(base)
    known = dict(base)
    if tied and embedding is not None:
        known[HEAD] = base[embedding]
    tables = [name for name in (embedding, HEAD) if name in known]
    changes = place_changes(adapter, base, traits)
    for target, change in changes.items():
        if target not in known:
            raise _not_stored(adapter, target, known)
        if change.replacement:
            new, old = adapter.tensors[change.replacement], known[target]
            if new != old and not (target in tables and new[1:] == old[1:]):
                raise another_base(adapter, f"{change.replacement} is {list(new)}, but {target} is {list(old)}")
    _check_complete(adapter, changes, known)
    after = {name: known[name] for name in changes} | _replaced(adapter, changes, tables, tied=tied)
    for target, change in changes.items():
        _check_change(adapter, change, target, after[target])
    rows = {name: after.get(name, known[name])[0] for name in tables}
    if len({count - known[name][0] for name, count in rows.items()}) > 1:
        told = " and ".join(f"{name} {count} rows" for name, count in rows.items())
        raise refuse(adapter, f"the adapter resizes the vocabulary, but leaves {told}", _SAVE_EMBEDDINGS)
    return after


def _not_stored(adapter: Adapter, target: str, known: Mapping[str, Shape]) -> AdapterInvalid:
    experts, inside, _ = target.partition(".experts.")
    stack = next((name for name in known if inside and name.startswith(experts + inside) and len(known[name]) > 2), "")
    if not stack:
        return another_base(adapter, f"it changes {target}, which this one does not store")
    what = f"it was trained on one of a mixture's experts, {target}, and the base stores all of them in {stack}"
    return refuse(adapter, what, MERGE_YOURSELF)


def _replaced(
    adapter: Adapter, changes: Mapping[str, Change], tables: Sequence[str], *, tied: bool
) -> dict[str, Shape]:
    """The shapes of tensors that are replaced. What replaces one of two tied tables replaces the other with it."""
    shapes = {target: adapter.tensors[change.replacement] for target, change in changes.items() if change.replacement}
    if tied:
        for table in [name for name in tables if name in shapes and not changes[name].own]:
            shapes = dict.fromkeys(tables, shapes[table]) | shapes
    return shapes


def _check_complete(adapter: Adapter, changes: Mapping[str, Change], known: Mapping[str, Shape]) -> None:
    """Whether the adapter holds all that its config speaks of. A missing matrix of a pair is found elsewhere."""
    saved = tuple(f"{module}.weight" for module in adapter.saved)
    lacking = [
        f"modules_to_save names {name.removesuffix('.weight')}, but the adapter does not hold it"
        for name in known
        if name.endswith(saved)
        if name not in changes or changes[name].replacement is None
    ]
    if adapter.lora_bias:
        biases = {change.pair.module: f"{change.pair.module}.bias" for change in changes.values() if change.pair}
        lacking += [
            f"lora_bias is true, but {module} has no lora_B.bias"
            for module, bias in biases.items()
            if changes.get(bias, Change()).added is None
        ]
    if adapter.tokens and not any(change.token_rows for change in changes.values()):
        lacking.append("trainable_token_indices is set, but the rows of these tokens are not in the adapter")
    if lacking:
        raise refuse(adapter, lacking[0], TRAIN_AGAIN)


def stores_inputs_first(adapter: Adapter, pair: LoraPair, shape: Shape) -> bool:
    """Whether a weight of this shape is [in, out]: embeddings, and the layers that fan_in_fan_out speaks of."""
    made = adapter.tensors[pair.b][0], adapter.tensors[pair.a][1]
    return pair.embedding or (adapter.fan_in_fan_out and shape == made[::-1])


def _check_change(adapter: Adapter, change: Change, target: str, shape: Shape) -> None:
    """Compares the shapes of what is added to one tensor with that of the tensor."""
    tensors = adapter.tensors
    outputs = rows = shape[0] if shape else 1  # a single number has no shape
    if change.pair:
        made: Shape = (tensors[change.pair.b][0], tensors[change.pair.a][1])
        transposed = stores_inputs_first(adapter, change.pair, shape)
        outputs = made[0]
        rank, _ = rank_and_scale(adapter, change.pair.trained)
        if tensors[change.pair.a][0] != rank:
            fault = f"{list(tensors[change.pair.a])}, but {CONFIG_NAME} gives {change.pair.trained} the rank {rank}"
            raise refuse(adapter, f"{change.pair.a} is {fault}", SAME_RUN)
        if (made[::-1] if transposed else made) != shape:
            raise another_base(
                adapter,
                f"{change.pair.a} and its lora_B make {list(made[::-1] if transposed else made)}, "
                f"but {target} is {list(shape)}",
            )
    if bool(change.magnitude) != (adapter.use_dora and change.pair is not None):
        fault = f"it holds {change.magnitude}" if change.magnitude else f"{target} has no lora_magnitude_vector"
        said = str(adapter.use_dora).lower()
        raise refuse(adapter, f"{CONFIG_NAME} says use_dora {said}, but {fault}", SAME_RUN)
    wanted = {
        change.magnitude: (outputs,),
        change.added: shape,
        change.token_rows: (len(change.tokens), *shape[1:]),
    }
    for name, expected in wanted.items():
        if name is not None and tensors[name] != expected:
            raise another_base(adapter, f"{name} is {list(tensors[name])}, but {target} makes it {list(expected)}")
    if change.tokens and max(change.tokens) >= rows:
        fault = f"trainable_token_indices names the token {max(change.tokens)}, but {target} has {rows} rows"
        raise another_base(adapter, fault)
