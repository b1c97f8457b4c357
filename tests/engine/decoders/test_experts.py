"""Mixtures of experts in batches: which tokens an expert gets together depends on what else is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeship import builder
from edgeship.builder.packaging import write_package
from edgeship.checkpoint import open_checkpoint
from edgeship.engine.decoders import Chunk, Floats
from edgeship.engine.decoders.onnx import OnnxDecoder
from edgeship.recipe import named_recipe
from edgeship.settings import resolve
from tests import checkpoints, onnx_decoder
from tests.builder import test_mixture
from tests.packages import config_of

pytestmark = pytest.mark.slow
SLOTS, LENGTH = 6, 33


@pytest.fixture(scope="module", params=["fp32", "int8", "int4"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a random mixture, three experts for each token: the sum of two is the same in any order."""
    home = tmp_path_factory.mktemp("mixture")
    checkpoint = open_checkpoint(str(test_mixture.make(home / "checkpoint", num_experts_per_tok=3)))
    recipe = named_recipe(request.param, {"calibrate": False}, where="here")
    made = builder.build(checkpoint, recipe, replace(resolve(), home=home / "home"))
    return write_package(made, checkpoint, home / "package").folder


def open_decoder(folder: Path) -> OnnxDecoder:
    return OnnxDecoder(config_of(folder), threads=2, slots=SLOTS, context_tokens=96)


def text(seed: int, length: int = LENGTH) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(3, checkpoints.VOCAB, length).tolist()
    return found


def test_experts_make_the_same_of_rows_of_their_own(folder: Path) -> None:
    decoder, tokens = open_decoder(folder), text(0)
    expected = onnx_decoder.OnnxDecoder(folder).logits(np.array(tokens))
    for invariant in (False, True):
        [found] = decoder.step([Chunk(0, tokens, 0, 1)], invariant=invariant)
        assert np.abs(found[0] - expected).max() < 0.02 * np.ptp(expected)


def test_an_invariant_result_depends_neither_on_company_nor_on_cuts(folder: Path) -> None:
    decoder, tokens = open_decoder(folder), text(1, LENGTH + 1)

    def read(*cuts: int) -> Floats:
        for start, end in zip((0, *cuts), (*cuts, LENGTH), strict=True):
            [logits] = decoder.step([Chunk(0, tokens[start:end], start, 1, reading=True)], invariant=True)
        return logits.copy()

    whole = read()
    for cuts in ((1,), (4, 9), (16,), (32,), (3, 10, 21), tuple(range(1, LENGTH))):
        assert np.array_equal(read(*cuts), whole), cuts
    [found] = decoder.step([Chunk(0, tokens[LENGTH:], LENGTH, 1)], invariant=True)
    alone = found.copy()
    for company in range(1, SLOTS):
        read()
        slots = range(1, company + 1)
        decoder.step([Chunk(slot, text(slot, 7), 0, 0) for slot in slots])
        chunks = [Chunk(0, tokens[LENGTH:], LENGTH, 1), *(Chunk(slot, [9 + slot], 7, 1) for slot in slots)]
        assert np.array_equal(decoder.step(chunks, invariant=True)[0], alone), company
