"""What an engine of a package will hold in memory, told before it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeship.engine.api import Limits
from edgeship.engine.decoders import kept
from edgeship.engine.opening import CACHE_SHARE, ENOUGH_CONTEXT_TOKENS, KV_SHARE, SLOTS
from edgeship.engine.tune import remembered
from edgeship.errors import EngineFailed, NotBatchable
from edgeship.package import DAMAGED, genai_config, tokenizer
from edgeship.package import manifest as manifests

# Measured with INT4 engines of 2 M, 135 M and 270 M parameters (tokenizer.json of 0.05, 3.5 and 33 MB), after an answer
# and one held to JSON: 114, 299 and 1,163 MB were held, of which 203, 361 and 1,207 are expected; for a moment the last
# took 1,361. The process with its libraries and what is computed in takes 110 to 140 MB, the rest is for such moments.
# Then for each byte of tokenizer.json 9 to 10 for the tokenizer, as many for constraints, and 5 more while these are
# made ready.
ENGINE_BYTES = 200_000_000
TOKENIZER_TIMES = 24
# ONNX Runtime holds cosines and sines for the whole context, and while it makes them as much again.
ROTARY_BYTES_PER_PAIR = 16


@dataclass(frozen=True)
class Footprint:
    """What an engine holds whatever it is asked, and what keys and values take besides.

    slots: answers side by side, as many as are wanted. token_bytes: keys and values of one token. state_bytes: what a
    slot holds besides, however many tokens it has.
    """

    fixed_bytes: int
    token_bytes: int = 0
    slots: int = 0
    context_tokens: int = 0
    state_bytes: int = 0

    def kv_bytes(self, budget_bytes: int, share_bytes: int) -> int:
        """What keys and values get of a budget for everything.

        As the engine does by itself, no more than a part of all; beside other models this one's share, but enough for
        the usual slots, where there is room; at least one slot of a usual context.
        """
        wanted = self._held_by(self.slots, self.context_tokens)
        usual = self._held_by(min(self.slots, SLOTS), ENOUGH_CONTEXT_TOKENS)
        least = self._held_by(1, ENOUGH_CONTEXT_TOKENS)
        room = min(budget_bytes // KV_SHARE, budget_bytes - self.fixed_bytes, max(share_bytes, usual))
        return max(least, min(wanted, room))

    def _held_by(self, slots: int, context_tokens: int) -> int:
        """What so many slots hold, with the prefix cache's part; the decoder has a row more than slots."""
        slot_bytes = self.token_bytes * min(context_tokens, self.context_tokens) + self.state_bytes
        return (slots + 1) * slot_bytes * CACHE_SHARE // (CACHE_SHARE - 1)


def of_package(folder: Path, size_bytes: int, limits: Limits, home: Path) -> Footprint:
    """Of the package in a folder, whose files have so many bytes. Raises EngineFailed, PackageRefused."""
    config = genai_config.read(folder, DAMAGED)
    path = folder / tokenizer.FILE_NAME
    tokenizer_bytes = path.stat().st_size if path.is_file() else 0
    # FP16 weights become FP32 when the model is opened.
    weights = (size_bytes - tokenizer_bytes) * (2 if _is_half(folder) else 1)
    fixed = ENGINE_BYTES + weights + TOKENIZER_TIMES * tokenizer_bytes
    try:
        keeps, head_size = kept.of_package(config), config.cache_shape[2]
        token_bytes, state_bytes = keeps.token_bytes, keeps.state_bytes
    except (EngineFailed, NotBatchable):  # another tool's, which only onnxruntime-genai can run
        return Footprint(fixed)
    tuning = remembered(home, folder)
    return Footprint(
        fixed + ROTARY_BYTES_PER_PAIR * head_size // 2 * config.context_tokens,
        token_bytes,
        limits.slots or (tuning.slots if tuning else SLOTS),
        min(limits.context_tokens or config.context_tokens, config.context_tokens),
        state_bytes,
    )


def _is_half(folder: Path) -> bool:
    if not (folder / manifests.MANIFEST_NAME).is_file():
        return False
    return manifests.read(folder).manifest.recipe.get("precision") == "fp16"
