"""Rotary frequencies: known values, and errors that name the field. The family tests compare with transformers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from edgeship.builder.rope import make_rope
from edgeship.checkpoint.dimensions import DAMAGED
from edgeship.errors import CheckpointInvalid
from edgeship.system.json_file import fields_of

YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}


def rope(head_size: int = 8, context: int = 128, **parameters: Any) -> Any:
    document = {"rope_theta": 10_000.0, **parameters}
    return make_rope(fields_of(document, Path("config.json"), DAMAGED), head_size, context)


def test_plain_frequencies_fall_from_one_by_powers_of_theta() -> None:
    assert rope().frequencies == pytest.approx((1.0, 0.1, 0.01, 0.001), rel=1e-6)
    assert rope().scale == 1.0
    assert rope().long_frequencies is None


def test_only_part_of_a_head_rotates() -> None:
    assert len(rope(head_size=16, partial_rotary_factor=0.75).frequencies) == 6


def test_linear_scaling_divides() -> None:
    assert rope(rope_type="linear", factor=4.0).frequencies == pytest.approx((0.25, 0.025, 0.0025, 0.00025))


def test_old_configs_say_type() -> None:
    assert rope(type="linear", factor=4.0) == rope(rope_type="linear", factor=4.0)


def test_llama3_keeps_short_waves_and_stretches_long_ones() -> None:
    scaled = rope(
        head_size=64,
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=1024,
    ).frequencies
    plain = rope(head_size=64).frequencies
    assert scaled[0] == plain[0]
    assert scaled[-1] == pytest.approx(plain[-1] / 8)
    assert any(a / 8 < b < a for a, b in zip(plain, scaled, strict=True))


def test_yarn_scales_attention_by_the_factor() -> None:
    made = rope(head_size=64, rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
    assert made.scale == pytest.approx(0.1 * math.log(4) + 1)
    plain = rope(head_size=64).frequencies
    assert made.frequencies[0] == plain[0]
    assert made.frequencies[-1] == pytest.approx(plain[-1] / 4)


def test_longrope_has_two_sets() -> None:
    made = rope(
        rope_type="longrope",
        short_factor=[1.0, 2.0, 2.0, 4.0],
        long_factor=[8.0] * 4,
        original_max_position_embeddings=32,
    )
    assert made.frequencies == pytest.approx((1.0, 0.05, 0.005, 0.00025))
    assert made.long_frequencies == pytest.approx((0.125, 0.0125, 0.00125, 0.000125))
    assert made.switch_tokens == 32
    assert made.scale == pytest.approx(math.sqrt(1 + math.log(4) / math.log(32)))


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "dynamic"),
        ({"rope_type": "linear"}, "factor"),
        ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor"),
        ({"rope_type": "longrope", "short_factor": [1.0], "original_max_position_embeddings": 8}, "short_factor"),
        ({"rope_theta": None}, "rope_theta"),
        ({"rope_theta": -1}, "has rope_theta -1, which is not a number above 0"),
        ({"rope_theta": "10000"}, "has rope_theta '10000', which is not a number above 0"),
        ({"rope_theta": 10**400}, "has rope_theta 1000"),
        ({"rope_type": 7}, "has rope_type 7, which is not a text"),
        ({"rope_type": "linear", "type": "yarn"}, "has rope_type 'linear' and type 'yarn'"),
        ({"partial_rotary_factor": 1e9}, "has partial_rotary_factor .* at most 1"),
        ({"rope_type": "linear", "factor": math.nan}, "factor nan, which is not a number above 0"),
        ({"rope_type": "linear", "factor": 1e-45}, "no frequencies follow"),
        (YARN | {"rope_theta": 1}, "no frequencies follow"),
        (YARN | {"truncate": "yes"}, "truncate 'yes', which is not true or false"),
        (
            {"rope_type": "longrope", "short_factor": [1, "a", 1, 1], "original_max_position_embeddings": 8},
            r"short_factor \[1, 'a', 1, 1\], which is not a list of 4 numbers above 0",
        ),
        (
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 1.0}
            | {"original_max_position_embeddings": 8},
            "high_freq_factor 1.0, which is not a number above 1",
        ),
    ],
)
def test_what_cannot_be_read_is_named(parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointInvalid, match=named):
        rope(**parameters)
