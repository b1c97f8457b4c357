"""What a model is expected to hold, and what it gets of a budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.engine.api import Limits
from edgeship.engine.isolated import IsolatedEngine
from edgeship.errors import EngineFailed
from edgeship.package import manifest as manifests
from edgeship.serve import footprint
from edgeship.serve.footprint import ENGINE_BYTES, Footprint
from edgeship.system.memory import resident_bytes
from tests.checkpoints import write_json
from tests.hybrid import CONTEXT_TOKENS, STATE_FLOATS, TOKEN_FLOATS, make_hybrid
from tests.packages import GENAI_CONFIG, make_package

LARGE = 10**12


def folder_with(path: Path, **decoder: int) -> Path:
    """A folder of another tool, with a context of 512 tokens."""
    path.mkdir()
    model = GENAI_CONFIG["model"]
    write_json(path / "genai_config.json", {"model": model | {"decoder": model["decoder"] | decoder}, "search": {}})
    return path


def test_a_package_holds_its_files_its_tokenizer_and_the_rotary_tables(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "x", num_key_value_heads=2, head_size=16)
    (folder / "tokenizer.json").write_bytes(b"x" * 100)
    found = footprint.of_package(folder, 5100, Limits(slots=3), tmp_path)
    assert found == Footprint(ENGINE_BYTES + 5000 + 24 * 100 + 8 * 16 * 512, 2 * 4 * 2 * 2 * 16, 3, 512)
    shorter = footprint.of_package(folder, 5100, Limits(context_tokens=100), tmp_path)
    assert (shorter.slots, shorter.context_tokens) == (4, 100)


def test_half_precision_is_opened_as_single(tmp_path: Path) -> None:
    package = make_package(tmp_path / "x")
    path = package.folder / manifests.MANIFEST_NAME
    before = footprint.of_package(package.folder, 10**9, Limits(), tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace('"int4"', '"fp16"'), encoding="utf-8")
    after = footprint.of_package(package.folder, 10**9, Limits(), tmp_path)
    tokenizer_bytes = (package.folder / "tokenizer.json").stat().st_size
    assert after.fixed_bytes - before.fixed_bytes == 10**9 - tokenizer_bytes


def test_where_keys_and_values_are_not_stated_they_are_left_out(tmp_path: Path) -> None:
    assert footprint.of_package(folder_with(tmp_path / "x"), 10, Limits(), tmp_path) == Footprint(ENGINE_BYTES + 10)


def test_states_are_held_for_every_slot(tmp_path: Path) -> None:
    folder = make_hybrid(tmp_path / "x")
    found = footprint.of_package(folder, 10**6, Limits(slots=3), tmp_path)
    assert (found.token_bytes, found.state_bytes) == (4 * TOKEN_FLOATS, 4 * STATE_FLOATS)
    assert found.kv_bytes(LARGE, LARGE) == 4 * 4 * (CONTEXT_TOKENS * TOKEN_FLOATS + STATE_FLOATS) * 4 // 3


def test_a_folder_that_is_damaged_says_so(tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(EngineFailed):
        footprint.of_package(tmp_path, 10, Limits(), tmp_path)


# A model of 1000 bytes a token, 8 slots and 32,768 tokens: all of it takes 393 MB, the usual 4 slots of 4096 tokens
# 27 MB and one of them 11 MB, with the decoder's row and the prefix cache.
MODEL = Footprint(10**8, 1000, 8, 32768)
ALL, USUAL, LEAST = (slots * tokens * 1000 * 4 // 3 for slots, tokens in ((9, 32768), (5, 4096), (2, 4096)))


@pytest.mark.parametrize(
    ("budget_bytes", "share_bytes", "kv_bytes"),
    [
        (LARGE, LARGE, ALL),  # no more than it can use
        (10**9, LARGE, 10**9 // 4),  # no more than the engine takes by itself
        (LARGE, 10**8, 10**8),  # its share beside others
        (LARGE, -(10**9), USUAL),  # but the usual slots, whatever the others are
        (115 * 10**6, 0, 15 * 10**6),  # what the budget leaves
        (105 * 10**6, 0, LEAST),  # and one slot at least
    ],
)
def test_keys_and_values_get_their_part(budget_bytes: int, share_bytes: int, kv_bytes: int) -> None:
    assert MODEL.kv_bytes(budget_bytes, share_bytes) == kv_bytes


def test_a_short_context_gets_what_it_can_use() -> None:
    assert Footprint(0, 1000, 2, 100).kv_bytes(LARGE, LARGE) == 400_000


@pytest.mark.slow
def test_it_is_about_what_a_process_holds(example: Path, tmp_path: Path) -> None:
    limits = Limits(slots=2, context_tokens=256, kv_bytes=10**7)
    found = footprint.of_package(example, manifests.size_bytes(example), limits, tmp_path)
    with IsolatedEngine(example, limits=limits) as engine:
        assert 0.4 < resident_bytes(engine.pid) / found.fixed_bytes < 1.0
