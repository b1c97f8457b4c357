"""What figures over input lengths are held to."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.validate.bounds import Bounds, bound


@dataclass(frozen=True)
class LengthBounds(Bounds):
    """See each field's reason."""

    max_prefill_slowdown_ratio: float = bound(
        2.0,
        "How many times as long as attention explains a token of the longest prompt may take to read, beside a token "
        "of a short one. Good packages stay near 1; the rest is room for kernels and for a machine that is busy.",
        least=1.0,
    )
    max_decode_slowdown_ratio: float = bound(
        5.0,
        "The same for a token that is written. With a good model of 2 M parameters 6.6 times in all was seen on a busy "
        "machine; the default leaves twice that. Without a cache of keys and values a token would take as long as its "
        "whole prompt.",
        least=1.0,
    )
    max_attention_cost_ratio: float = bound(
        1.0,
        "How many times as long as a multiplication of weights one of attention may take. Measured on CPUs with "
        "quantized weights, 0.9 while writing and 1.5 while reading; what is beyond 1 is part of "
        "max_prefill_slowdown_ratio.",
    )
    max_unknown_attention_share: float = bound(
        0.00065,
        "What attending to one token may cost, as a part of what its weights cost, where a target does not tell its "
        "sizes, as servers do not: that of a hidden size of 256, below which few models lie.",
    )
    max_memory_growth_share: float = bound(
        1.0,
        "How much memory may grow from the shortest prompt to the longest, as a part of what was held before, beside "
        "the keys and values of the longest and of those before it that the target says it keeps. Buffers for the "
        "longest step are part of it; it must not double.",
    )
    max_drop: float = bound(
        0.1,
        "How far the pass rate at a length may surely fall below the original's at the same length, and that of facts "
        "that are found. As large as the margin at which a few dozen paired cases can show anything.",
        most=1.0,
    )
    min_kept_share: float = bound(
        0.0,
        "Without an original that can be asked: the part of the answers right at their own length that must be right "
        "in the longest prompt too. 0, the default, asks for nothing, and the figure is only told: most fine-tuned "
        "models have learnt one length and no other.",
        most=1.0,
    )
