"""Layers that look at the keys and values of others, in slots: what they give is what the package's own graph gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeship.engine.decoders import Chunk
from edgeship.engine.decoders.onnx import OnnxDecoder
from edgeship.package import DAMAGED, genai_config
from edgeship.settings import Settings
from tests import families
from tests.families import Floats, Integers, Made, Reference
from tests.onnx_decoder import OnnxDecoder as Plain

pytestmark = pytest.mark.slow
CLOSE = 1e-5


def chunk(slot: int, tokens: Integers, start: int, wanted: int = 1, *, reading: bool = True) -> Chunk:
    return Chunk(slot, tuple(map(int, tokens)), start, wanted, reading)


@pytest.mark.parametrize("name", ["gemma4", "gemma4-untied", "gemma4-keys-are-values"])
def test_chunks_batches_and_known_prefixes_give_the_same(name: str, tmp_path: Path, settings: Settings) -> None:
    case = next(case for case in families.CASES if case.name == name)
    folder = Made(case, families.make_checkpoint(case, tmp_path / "c"), Reference({}), settings).built(precision="fp32")
    plain, prompt = Plain(folder), case.prompt
    decoder = OnnxDecoder(genai_config.read(folder, DAMAGED), threads=1, slots=3, context_tokens=96)

    def check(found: Floats, tokens: Integers) -> None:
        expected = plain.logits(tokens)
        assert np.abs(found - expected).max() < CLOSE * np.ptp(expected)

    decoder.step([chunk(0, prompt[:17], 0)])
    [several] = decoder.step([chunk(0, prompt[17:30], 17, 3)])
    for logits, length in zip(several, (28, 29, 30), strict=True):
        check(logits, prompt[:length])
    [other] = decoder.step([chunk(1, prompt[5:16], 0)])
    check(other[-1], prompt[5:16])
    for more in range(3):
        both = [chunk(0, prompt[30 + more :][:1], 30 + more, reading=False)]
        both.append(chunk(1, prompt[16 + more :][:1], 11 + more, reading=False))
        one, two = decoder.step(both)
        check(one[-1], prompt[: 31 + more])
        check(two[-1], prompt[5 : 17 + more])
    decoder.write(2, 0, decoder.read(0, 0, 20))
    [known] = decoder.step([chunk(2, prompt[20:33], 20)])
    check(known[-1], prompt[:33])
