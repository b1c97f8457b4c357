"""What each matrix costs at 4 bits: the same as in a checkpoint whose matrix is rounded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from edgeship.builder import sensitivities
from edgeship.builder.quantize import Scheme, dequantize, quantize
from edgeship.builder.sensitivities import Divergences, measure_sensitivities, tokens_wanted
from edgeship.recipe import Precision, Recipe
from tests import checkpoints
from tests.builder.test_walk import LAYERS, seen, start

RECIPE = Recipe(precision=Precision.INT4, block_size=32, bits=5.0)


def predictions(folder: Path, scratch: Path, output: str = "embedding") -> npt.NDArray[np.float64]:
    """Logarithms of probabilities, [positions, vocabulary]."""
    head = load_file(folder / "model.safetensors")[
        "model.embed_tokens.weight" if output == "embedding" else "lm_head.weight"
    ]
    logits = seen(start(folder, scratch), LAYERS - 1)[output].astype(np.float64) @ head.T
    logits -= logits.max(axis=-1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("layers.0.down", "model.layers.0.mlp.down_proj.weight"),
        ("layers.1.output", "model.layers.1.self_attn.o_proj.weight"),
        ("embedding", "model.embed_tokens.weight"),
        ("head", "lm_head.weight"),
    ],
)
def test_a_matrix_costs_what_a_checkpoint_loses_by_rounding_it(
    tiny: Path, tmp_path: Path, name: str, tensor: str
) -> None:
    tied = name != "head"
    weights = {key: value * 4 for key, value in load_file(tiny / "model.safetensors").items()}
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(tie_word_embeddings=tied))
    if not tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"][::-1].copy()
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    found = measure_sensitivities(start(tiny, tmp_path / "walk"), RECIPE, {})

    rounded = Path(shutil.copytree(tiny, tmp_path / "rounded"))
    low = Scheme(4, 32, symmetric=True, method="search")
    weights[tensor] = dequantize(quantize(weights[tensor], low), low, weights[tensor].shape[1])
    save_file(weights, rounded / "model.safetensors", metadata={"format": "pt"})
    output = "embedding" if tied else "head"
    fine, coarse = (predictions(folder, tmp_path / f"of-{folder.name}", output) for folder in (tiny, rounded))
    assert found[name] == pytest.approx(float((np.exp(fine) * (fine - coarse)).sum(axis=-1).mean()), rel=0.1)
    assert found.keys() == {
        *(["embedding"] if tied else ["embedding", "head"]),
        *(f"layers.{layer}.{matrix}" for layer in range(LAYERS) for matrix in ("qkv", "output", "gate", "up", "down")),
    }


def test_a_large_vocabulary_leaves_fewer_positions() -> None:
    assert [tokens_wanted(size) for size in (384, 49_152, 262_144)] == [1024, 162, 64]


def test_a_matrix_that_gives_no_numbers_at_4_bits_is_not_free() -> None:
    fine = np.zeros((2, 3), np.float32)
    for low in (np.nan, -np.inf):
        divergences = Divergences(["bad", "good"], 2)
        divergences.add(fine, [("bad", np.full_like(fine, low)), ("good", fine)])
        assert divergences.means() == {"bad": sensitivities.UNBEARABLE, "good": 0.0}


def test_divergences_of_logits_in_parts_are_those_of_all_together() -> None:
    random = np.random.default_rng(0)
    fine, low = (random.normal(0, 20, (5, 1000)).astype(np.float32) for _ in range(2))
    divergences = Divergences(["low"], 5)
    for part in (slice(0, 1), slice(1, 400), slice(400, 1000)):
        divergences.add(fine[:, part], [("low", low[:, part])])
    one, other = (logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1))[:, None] for logits in (fine, low))
    assert divergences.means()["low"] == pytest.approx(
        float((np.exp(one) * (one - other)).sum(axis=1).mean()), rel=1e-5
    )


@pytest.mark.parametrize("tied", [True, False])
def test_an_output_layer_that_is_opened_in_parts_costs_the_same(
    tiny: Path, tmp_path: Path, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(tie_word_embeddings=tied))
    if not tied:
        weights = load_file(tiny / "model.safetensors")
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"][::-1].copy()
        save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    whole = measure_sensitivities(start(tiny, tmp_path / "whole"), RECIPE, {})
    monkeypatch.setattr(sensitivities, "OUTPUT_ELEMENTS", 100 * checkpoints.qwen2_config()["hidden_size"])
    parts = measure_sensitivities(start(tiny, tmp_path / "parts"), RECIPE, {})
    assert parts == pytest.approx(whole, rel=1e-3, abs=1e-7)
