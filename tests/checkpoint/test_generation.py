"""generation_config.json: what is not followed is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship.checkpoint import generation, open_checkpoint
from tests import checkpoints


def notes(folder: Path, stated: dict[str, Any]) -> list[str]:
    checkpoints.write_json(folder / "generation_config.json", stated)
    return list(generation.notes(generation.read([folder])))


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("num_beams", 4, "4"),
        ("no_repeat_ngram_size", 3, "3"),
        ("suppress_tokens", [1, 2], "[1, 2]"),
        ("begin_suppress_tokens", [220], "[220]"),
        ("bad_words_ids", [[5]], "[[5]]"),
        ("stop_strings", "END", "'END'"),
        ("forced_bos_token_id", 0, "0"),
        ("forced_eos_token_id", [2], "[2]"),
        ("guidance_scale", 1.5, "1.5"),
        ("penalty_alpha", 0.6, "0.6"),
        ("num_beams", "four", "'four'"),
    ],
)
def test_what_changes_answers_and_is_not_followed_is_told(tmp_path: Path, name: str, value: Any, shown: str) -> None:
    [told] = notes(tmp_path, {name: value})
    assert told.startswith(f"generation_config.json: {name} {shown} is not followed: ")


@pytest.mark.parametrize("name", ["min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"])
def test_what_changes_only_what_is_sampled_is_told_where_answers_are(tmp_path: Path, name: str) -> None:
    assert notes(tmp_path, {name: 0.05}) == []
    [told] = notes(tmp_path, {name: 0.05, "do_sample": True})
    assert told.startswith(f"generation_config.json: {name} 0.05 is not followed: ")


def test_what_changes_nothing_is_not_told(tmp_path: Path) -> None:
    plain: dict[str, Any] = {
        "num_beams": 1,
        "no_repeat_ngram_size": 0,
        "suppress_tokens": None,
        "bad_words_ids": [],
        "min_p": 0.0,
    }
    more = {"guidance_scale": 1.0, "typical_p": 1.0, "do_sample": True, "top_k": 20, "transformers_version": "5"}
    assert notes(tmp_path, plain | more) == []


def test_a_checkpoint_has_it_among_its_notes(tiny: Path) -> None:
    stated = {"num_beams": 4, "eos_token_id": 2}
    checkpoints.write_json(tiny / "generation_config.json", stated)
    assert any("num_beams 4 is not followed" in note for note in open_checkpoint(str(tiny)).notes)
