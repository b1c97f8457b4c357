"""What the data file holds, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.builder import layout
from edgeship.builder.allocation import allocate
from edgeship.builder.architecture import read_architecture
from edgeship.builder.layout import Matrix, lay_out
from edgeship.checkpoint import open_checkpoint
from edgeship.errors import ArchitectureUnknown
from edgeship.recipe import Recipe
from tests import checkpoints

RECIPES = st.fixed_dictionaries(
    {
        "precision": st.sampled_from(["fp32", "fp16", "int8", "int4"]),
        "block_size": st.sampled_from([16, 32, 64, 128, 256]),
        "symmetric": st.booleans(),
    }
)


@given(values=RECIPES)
def test_nothing_overlaps_and_nothing_is_wasted(values: dict[str, Any]) -> None:
    weights: list[Matrix | layout.Vector] = [
        Matrix("a", (layout.Part("x", 0, 7),), 96),
        layout.Vector("b", (layout.Part("y", 0, 5),)),
    ]
    made = lay_out(weights, allocate(weights, Recipe(**values)))
    blobs = [blob for placed in made for blob in placed.blobs]
    end = 0
    for blob in blobs:
        assert end <= blob.offset < end + layout.ALIGNMENT
        assert blob.offset % layout.ALIGNMENT == 0
        assert blob.nbytes == int(np.prod(blob.shape)) * np.dtype(blob.dtype).itemsize
        end = blob.offset + blob.nbytes
    assert made.size_bytes == end


def test_smaller_blocks_where_a_row_would_be_padded() -> None:
    narrow = Matrix("narrow", (layout.Part("x", 0, 8),), 192)
    wide = Matrix("wide", (layout.Part("y", 0, 8),), 1024)
    chosen = allocate([narrow, wide], Recipe.model_validate({"precision": "int4", "block_size": 128}))
    assert [getattr(chosen[name], "block_size", None) for name in ("narrow", "wide")] == [64, 128]


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    folder = checkpoints.make_checkpoint(
        tmp_path / "other", config=checkpoints.qwen2_config(architectures=["FalconForCausalLM"])
    )
    with pytest.raises(ArchitectureUnknown, match="FalconForCausalLM"):
        read_architecture(open_checkpoint(str(folder)))
