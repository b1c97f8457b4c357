"""What calibration measures, and how rounding asks for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship.builder import calibrate
from edgeship.builder.calibrate import Feedback, energies, gram_parts, grams
from edgeship.builder.feedback import error_factors
from edgeship.recipe import BLOCK_SIZES
from tests.builder.test_walk import LAYERS, TEXTS, seen, start


def test_grams_are_those_of_the_inputs_that_are_seen(tiny: Path, tmp_path: Path) -> None:
    inputs = seen(start(tiny, tmp_path / "one"), 0)
    found = grams(start(tiny, tmp_path / "two"), 0)
    assert found.keys() == {"layers.0.qkv", "layers.0.output", "layers.0.gate", "layers.0.down"}
    for name, [gram] in found.items():
        wide = inputs[name].astype(np.float64)
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        assert np.allclose(gram, wide.T @ wide / len(wide), rtol=1e-4, atol=1e-7)
        assert np.array_equal(gram, gram.T)


def test_a_position_without_inputs_counts_for_nothing(tiny: Path, tmp_path: Path) -> None:
    silent = Path(shutil.copytree(tiny, tmp_path / "silent"))
    tensors = load_file(silent / "model.safetensors")
    tensors["model.embed_tokens.weight"][300] = 0  # which the texts hold once
    save_file(tensors, silent / "model.safetensors")
    [gram] = grams(start(silent, tmp_path / "walk"), 0)["layers.0.qkv"]
    positions = sum(map(len, TEXTS))
    assert np.trace(gram) == pytest.approx((positions - 1) / positions, rel=1e-5)


def test_energies_are_mean_squares_of_all_inputs(tiny: Path, tmp_path: Path) -> None:
    found = energies(start(tiny, tmp_path / "walk"))
    reader = start(tiny, tmp_path / "other")
    inputs = {name: each for layer in range(LAYERS) for name, each in seen(reader, layer).items()}
    assert found.keys() == inputs.keys()
    for name, energy in found.items():
        assert np.allclose(energy, np.square(inputs[name], dtype=np.float64).mean(axis=0), rtol=1e-4)


def test_guidance_reads_each_layer_once(tiny: Path, tmp_path: Path) -> None:
    told: list[str] = []
    reader = start(tiny, tmp_path / "walk", told.append)
    guidance = Feedback(reader)
    for layer in range(LAYERS):
        for matrix in reader.matrices(layer):
            [factors] = guidance.get(matrix.name) or []
            assert factors.gram.shape == (matrix.width, matrix.width)
    assert len(told) == len(set(told)) == LAYERS * 3
    assert guidance.get("head") is None


def test_wide_matrices_are_led_by_parts(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = grams(start(tiny, tmp_path / "one"), 0)
    monkeypatch.setattr(calibrate, "WIDEST_GRAM", 64)
    monkeypatch.setattr(calibrate, "BLOCK_SIZES", (32,))
    reader = start(tiny, tmp_path / "two")
    first, second = Feedback(reader).get("layers.0.down") or []
    [down] = whole["layers.0.down"]
    assert np.allclose(first.gram, error_factors(down[:64, :64]).gram, rtol=1e-4, atol=1e-7)
    assert np.allclose(second.gram, error_factors(down[64:, 64:]).gram, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("width", [64, 6144, 6145, 11_008, 14_336, 18_944])
def test_parts_make_up_the_width_in_whole_blocks(width: int) -> None:
    parts = gram_parts(width)
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0].start, parts[-1].stop) == (0, width)
    assert len(parts) == -(-width // 6144)
    assert all(part.stop - part.start <= 6144 for part in parts)
    assert all(part.start % (2 * max(BLOCK_SIZES)) == 0 for part in parts)
