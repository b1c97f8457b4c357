"""Opens the engine of a package: chooses who runs it, and deals out memory."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.engine.api import DEFAULT_LIMITS, Chat, Engine, Limits, check_settings
from edgeship.engine.continuous import ContinuousEngine
from edgeship.engine.grammar import Grammars
from edgeship.engine.sampling import defaults_of
from edgeship.engine.schedule import StepTimes
from edgeship.engine.text import TextCodec
from edgeship.errors import MemoryShort, NotBatchable, NotSupported, UsageError
from edgeship.package import DAMAGED, genai_config, template, tokenizer
from edgeship.package import manifest as manifests
from edgeship.package.genai_config import GenaiConfig
from edgeship.system import machine

if TYPE_CHECKING:
    from edgeship.engine.decoders import Decoder
    from edgeship.engine.tune import Tuning

AUTO = "auto"
ENGINES = {
    "batched": "edgeship.engine.opening:open_batched",
    "genai": "edgeship.engine.opening:open_genai",
    "foundry": "edgeship.foundry.engine:open_foundry",
}
"""Engines by name, as MODULE:FUNCTION. A function takes EngineOptions and returns an Engine; foundry's only a Chat."""

SLOTS = 4
# What keys and values may take of the memory that is free, and the prefix cache of that.
KV_SHARE, CACHE_SHARE = 4, 4
ENOUGH_CONTEXT_TOKENS = 4096
_LEAST_CONTEXT_TOKENS = 16
_log = logging.getLogger("edgeship.engine")


@dataclass(frozen=True)
class EngineOptions:
    """How a package is to be run; see `load`."""

    folder: Path
    threads: int | None = None
    limits: Limits = DEFAULT_LIMITS
    speculation: bool | None = None
    tuning: Tuning | None = None
    memory_bytes: int | None = None
    slots: int | None = None

    @functools.cached_property
    def config(self) -> GenaiConfig:
        """What the package says of its model, read once. Raises EngineFailed, PackageRefused."""
        config = genai_config.read(self.folder, DAMAGED)
        loaded = {*config.files, *tokenizer.FILES, tokenizer.CONFIG_NAME, template.FILE_NAME}
        manifests.require_listed(self.folder, loaded, DAMAGED)
        return config


@dataclass(frozen=True)
class Room:
    """How the memory for keys and values is dealt out."""

    slots: int
    context_tokens: int
    cache_bytes: int


def load(
    folder: Path,
    *,
    threads: int | None = None,
    engine: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
    speculation: bool | None = None,
    home: Path | None = None,
    memory_bytes: int | None = None,
    slots: int | None = None,
) -> Engine:
    """The engine for a package folder, with tokens to be seen.

    threads: None uses what `edgeship tune` found best here, or every core that this machine grants.
    engine: "auto" takes the batched one on the CPU, and onnxruntime-genai for other providers and graphs; otherwise a
    name in ENGINES, or MODULE:FUNCTION as stands there for one that is not ours.
    speculation: guess tokens from the text so far: None where it proves faster.
    home: where `edgeship tune` keeps what it measured; None leaves that out.
    memory_bytes: pretend that the machine has no more memory than this.
    slots: where the limits leave them open, so many where memory has room for all of them; None as for serving.

    Raises UsageError for an unknown engine, NotSupported for one that is no more than a chat, EngineFailed where the
    package cannot be loaded.
    """
    options: dict[str, Any] = {"limits": limits, "speculation": speculation, "home": home, "memory_bytes": memory_bytes}
    chat = load_chat(folder, threads=threads, engine=engine, slots=slots, **options)
    if isinstance(chat, Engine):
        return chat
    chat.close()
    raise NotSupported(f"{engine} answers conversations, and shows no tokens", hint="Take another engine.")


def load_chat(
    folder: Path,
    *,
    threads: int | None = None,
    engine: str = AUTO,
    limits: Limits = DEFAULT_LIMITS,
    speculation: bool | None = None,
    home: Path | None = None,
    memory_bytes: int | None = None,
    slots: int | None = None,
) -> Chat:
    """The same where conversations are all that is asked: by an engine, or by what is no more than a chat."""
    check_settings(limits=limits, threads=threads, speculation=speculation, memory_bytes=memory_bytes)
    options = EngineOptions(folder, threads, limits, speculation, _remembered(home, folder), memory_bytes, slots)
    return _choose(options) if engine == AUTO else _opener(engine)(options)


def _opener(engine: str) -> Callable[[EngineOptions], Chat]:
    module, colon, function = ENGINES.get(engine, engine).partition(":")
    if not colon:
        raise UsageError(f"no engine is called {engine!r}", hint=f"Engines: {', '.join((AUTO, *ENGINES))}.")
    opener: Callable[[EngineOptions], Chat] = getattr(importlib.import_module(module), function)
    return opener


def _choose(options: EngineOptions) -> Engine:
    if options.config.provider != "cpu":
        return open_genai(options)
    try:
        return open_batched(options)
    except NotBatchable as error:
        return open_genai(options, f"run by onnxruntime-genai, one answer after another: {error.what}")


def _remembered(home: Path | None, folder: Path) -> Tuning | None:
    if home is None:
        return None
    from edgeship.engine.tune import remembered

    return remembered(home, folder)


def open_batched(options: EngineOptions) -> ContinuousEngine:
    """Continuous batching over ONNX Runtime on the CPU. Raises NotBatchable, EngineFailed, MemoryShort."""
    from edgeship.engine.decoders import kept
    from edgeship.engine.decoders.onnx import OnnxDecoder

    config, tuning = options.config, options.tuning
    keeps = kept.of_package(config)
    token_bytes, state_bytes = keeps.token_bytes, keeps.state_bytes
    room = deal_out(
        options.limits,
        token_bytes,
        config.context_tokens,
        machine.this_machine(options.memory_bytes).memory_available_bytes,
        options.slots or (tuning.slots if tuning else SLOTS),
        state_bytes,
    )
    decoder = OnnxDecoder(
        config,
        threads=options.threads or (tuning.threads if tuning else machine.usable_cores()),
        slots=room.slots,
        context_tokens=room.context_tokens,
        accuracy_level=tuning.accuracy_level if tuning else None,
    )
    cut = why_cut(room, token_bytes, config.context_tokens, options.limits, state_bytes)
    # A long context that is not the longest is told where a prompt does not fit; a short one at once.
    note = cut if room.context_tokens < ENOUGH_CONTEXT_TOKENS and not options.limits.context_tokens else None
    return _engine(options, decoder, room.cache_bytes, note, context_cut=cut)


def why_cut(room: Room, token_bytes: int, model_tokens: int, limits: Limits, state_bytes: int = 0) -> str | None:
    """What is to be said of a context that is shorter than the model's own; None where it is not."""
    if room.context_tokens >= model_tokens:
        return None
    if limits.context_tokens:
        return f"it was limited so, and the model itself takes {model_tokens:,}"
    slot_bytes = token_bytes * model_tokens + state_bytes
    enough_mb = slot_bytes * room.slots * CACHE_SHARE // (CACHE_SHARE - 1) // 10**6 + 1
    return (
        f"memory cut the context from {model_tokens:,} tokens to {room.context_tokens:,}: keys and values take "
        f"{token_bytes:,} bytes a token; --kv-memory {enough_mb}MB has room for all, in Python Limits(kv_bytes=...)"
    )


def open_genai(options: EngineOptions, note: str | None = None) -> ContinuousEngine:
    """The same over onnxruntime-genai, for every provider; answers take turns. `note` becomes the engine's.

    Raises EngineFailed.
    """
    from edgeship.engine.decoders.genai import GenaiDecoder

    config, limits = options.config, options.limits
    decoder = GenaiDecoder(
        config,
        threads=machine.cores_to_use(options.threads),
        slots=limits.slots or 1,
        context_tokens=min(limits.context_tokens or config.context_tokens, config.context_tokens),
    )
    return _engine(options, decoder, note=note)


def deal_out(
    limits: Limits, token_bytes: int, model_tokens: int, available_bytes: int, slots: int, state_bytes: int = 0
) -> Room:
    """Slots, their length and the prefix cache within the budget.

    token_bytes, state_bytes: what a slot takes for each token, and besides.
    slots: where the limits leave them open; fewer where each would otherwise hold little.
    Raises MemoryShort where the budget is smaller than what is asked for.
    """
    budget = limits.kv_bytes if limits.kv_bytes is not None else available_bytes // KV_SHARE
    if limits.context_tokens and limits.slots:
        context = min(limits.context_tokens, model_tokens)
        need = limits.slots * (context * token_bytes + state_bytes)
        if need > budget:
            raise MemoryShort(
                f"{limits.slots} slots of {context} tokens take {need} bytes, and {budget} are allowed",
                hint=_more_for(need),
            )
        return Room(limits.slots, context, budget - need)
    for_slots = budget - budget // CACHE_SHARE
    enough = min(limits.context_tokens or ENOUGH_CONTEXT_TOKENS, model_tokens)
    slots = limits.slots or max(1, min(slots, for_slots // (enough * token_bytes + state_bytes)))
    most = (for_slots - slots * state_bytes) // (slots * token_bytes)
    context = min(limits.context_tokens or model_tokens, model_tokens, most)
    least = min(limits.context_tokens or _LEAST_CONTEXT_TOKENS, model_tokens)
    if context < least:
        states = f" and states {state_bytes} bytes a slot" if state_bytes else ""
        raise MemoryShort(
            f"keys and values take {token_bytes} bytes a token{states}, and {for_slots} bytes are there "
            f"for {slots} slots",
            hint=_more_for(-(-slots * (least * token_bytes + state_bytes) * CACHE_SHARE // (CACHE_SHARE - 1))),
        )
    return Room(slots, context, budget - slots * (context * token_bytes + state_bytes))


def _more_for(need_bytes: int) -> str:
    return f"--kv-memory {need_bytes // 10**6 + 1}MB has room for that; a shorter --context and fewer slots need less."


def times_of(tuning: Tuning) -> StepTimes:
    """What `edgeship tune` measured, as if it had just happened."""
    times = StepTimes()
    for rows, seconds in tuning.batch_s.items():
        times.note_batch(rows, seconds)
    for tokens, seconds in sorted(tuning.step_s.items()):
        times.note_read(tokens, seconds)
        times.note_check(tokens, seconds)
    return times


def _engine(
    options: EngineOptions,
    decoder: Decoder,
    cache_bytes: int = 0,
    note: str | None = None,
    context_cut: str | None = None,
) -> ContinuousEngine:
    folder, config = options.folder, options.config
    codec = TextCodec(folder, decoder.context_tokens)
    path, space_first = folder / tokenizer.FILE_NAME, codec.drops_first_space
    engine = ContinuousEngine(
        decoder,
        codec,
        Grammars(path, config.vocab_size, config.end_ids, space_first=space_first),
        defaults=defaults_of(config.search),
        end_ids=config.end_ids,
        cache_bytes=cache_bytes,
        waiting=options.limits.waiting,
        speculation=options.speculation,
        times=times_of(options.tuning) if options.tuning else None,
        note=note,
        context_cut=context_cut,
    )
    _log.info(
        "opened %s: %s, %d threads, %d slots of %d tokens, %d bytes for prefixes",
        *(folder, engine.name, engine.threads, engine.slots, engine.context_tokens, cache_bytes),
    )
    return engine
