"""The engine of a package: its decoder, its tokenizer, and as many slots as memory allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeship import machine
from edgeship.engine.api import Limits
from edgeship.engine.config import EngineConfig, read_config
from edgeship.engine.continuous import ContinuousEngine
from edgeship.engine.grammar import Grammars
from edgeship.engine.schedule import Pace
from edgeship.engine.tokens import TextCodec
from edgeship.errors import MemoryShort

if TYPE_CHECKING:
    from edgeship.engine import Order
    from edgeship.engine.decoder import Decoder
    from edgeship.engine.tune import Tuning

SLOTS = 4
# What keys and values may take of the memory that is free, and the prefix cache of that.
KV_SHARE, CACHE_SHARE = 4, 4
ENOUGH_CONTEXT_TOKENS = 4096
_LEAST_CONTEXT_TOKENS = 16


@dataclass(frozen=True)
class Room:
    """How the memory for keys and values is dealt out."""

    slots: int
    context_tokens: int
    cache_bytes: int


def open_batched(order: Order) -> ContinuousEngine:
    """Continuous batching over ONNX Runtime on the CPU. Raises NotBatchable, EngineFailed, MemoryShort."""
    from edgeship.engine.onnx_decoder import OnnxDecoder, kv_token_bytes

    config = read_config(order.folder)
    tuning = order.tuning
    room = deal_out(
        order.limits,
        kv_token_bytes(config),
        config.context_tokens,
        machine.this_machine().memory_available_bytes,
        tuning.slots if tuning else SLOTS,
    )
    decoder = OnnxDecoder(
        order.folder,
        threads=order.threads or (tuning.threads if tuning else machine.usable_cores()),
        slots=room.slots,
        context_tokens=room.context_tokens,
        accuracy_level=tuning.accuracy_level if tuning else None,
    )
    return _engine(order, config, decoder, room.cache_bytes)


def open_genai(order: Order) -> ContinuousEngine:
    """The same over onnxruntime-genai, for every provider; answers take turns. Raises EngineFailed."""
    from edgeship.engine.genai import GenaiDecoder

    config = read_config(order.folder)
    limits = order.limits
    decoder = GenaiDecoder(
        order.folder,
        threads=machine.cores_to_use(order.threads),
        slots=limits.slots or 1,
        context_tokens=min(limits.context_tokens or config.context_tokens, config.context_tokens),
    )
    return _engine(order, config, decoder, 0)


def deal_out(limits: Limits, token_bytes: int, model_tokens: int, available_bytes: int, slots: int) -> Room:
    """Slots, their length and the prefix cache within the budget.

    slots: where the limits leave them open; fewer where each would otherwise hold little.
    Raises MemoryShort where the budget is smaller than what is asked for.
    """
    budget = limits.kv_bytes if limits.kv_bytes is not None else available_bytes // KV_SHARE
    if limits.context_tokens and limits.slots:
        context = min(limits.context_tokens, model_tokens)
        need = limits.slots * context * token_bytes
        if need > budget:
            raise MemoryShort(
                f"{limits.slots} slots of {context} tokens take {need} bytes, and {budget} are allowed",
                hint="Allow more bytes, or take fewer slots or shorter ones.",
            )
        return Room(limits.slots, context, budget - need)
    for_slots = budget - budget // CACHE_SHARE
    enough = min(limits.context_tokens or ENOUGH_CONTEXT_TOKENS, model_tokens)
    slots = limits.slots or max(1, min(slots, for_slots // (enough * token_bytes)))
    context = min(limits.context_tokens or model_tokens, model_tokens, for_slots // (slots * token_bytes))
    if context < min(limits.context_tokens or _LEAST_CONTEXT_TOKENS, model_tokens):
        raise MemoryShort(
            f"keys and values take {token_bytes} bytes a token, and {for_slots} bytes are there for {slots} slots",
            hint="Free memory, allow more bytes, or take fewer slots or shorter ones.",
        )
    return Room(slots, context, budget - slots * context * token_bytes)


def pace_of(tuning: Tuning) -> Pace:
    """What `edgeship tune` measured, as if it had just happened."""
    pace = Pace()
    for rows, seconds in tuning.batch_s.items():
        pace.note_batch(rows, seconds)
    for tokens, seconds in sorted(tuning.step_s.items()):
        pace.note_read(tokens, seconds)
        pace.note_check(tokens, seconds)
    return pace


def _engine(order: Order, config: EngineConfig, decoder: Decoder, cache_bytes: int) -> ContinuousEngine:
    folder = order.folder
    return ContinuousEngine(
        decoder,
        TextCodec(folder),
        Grammars(folder / "tokenizer.json", config.vocab_size, config.end_ids),
        defaults=config.defaults,
        end_ids=config.end_ids,
        cache_bytes=cache_bytes,
        waiting=order.limits.waiting,
        speculation=order.speculation,
        pace=pace_of(order.tuning) if order.tuning else None,
        note=order.note,
    )
