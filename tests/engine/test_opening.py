"""How memory is dealt out, and which engine a package gets."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.answer import collect
from edgeship.engine.api import DEFAULT_LIMITS, Limits, Prompt, Sampling
from edgeship.engine.opening import ENOUGH_CONTEXT_TOKENS, SLOTS, Room, deal_out, load, times_of, why_cut
from edgeship.engine.tune import Setting, Trial, Tuning
from edgeship.errors import ContextFull, MemoryShort, NotBatchable

TOKEN = 1000
MODEL_TOKENS = 32_768


def test_what_is_asked_for_is_given_and_the_rest_is_for_the_cache() -> None:
    room = deal_out(Limits(slots=8, context_tokens=2048, kv_bytes=20_000_000), TOKEN, MODEL_TOKENS, 0, SLOTS)
    assert (room.slots, room.context_tokens, room.cache_bytes) == (8, 2048, 20_000_000 - 8 * 2048 * TOKEN)


def test_nothing_asked_for_is_a_quarter_of_what_is_free() -> None:
    room = deal_out(DEFAULT_LIMITS, TOKEN, 8192, 10**9, SLOTS)
    assert (room.slots, room.context_tokens) == (SLOTS, 8192)
    assert room.slots * room.context_tokens * TOKEN + room.cache_bytes == 250_000_000


def test_fewer_slots_rather_than_short_ones() -> None:
    room = deal_out(DEFAULT_LIMITS, TOKEN, MODEL_TOKENS, 4 * 10_000 * TOKEN, slots=32)
    assert (room.slots, room.context_tokens) == (1, 7500)
    room = deal_out(DEFAULT_LIMITS, TOKEN, MODEL_TOKENS, 4 * 100_000 * TOKEN, slots=32)
    assert (room.slots, room.context_tokens) == (75_000 // ENOUGH_CONTEXT_TOKENS, 75_000 // 18)


def test_one_slot_holds_what_the_model_takes() -> None:
    room = deal_out(Limits(slots=1), TOKEN, MODEL_TOKENS, 10**9, SLOTS)
    assert (room.slots, room.context_tokens) == (1, MODEL_TOKENS)


def test_a_budget_that_is_too_small_is_refused_with_the_numbers() -> None:
    with pytest.raises(MemoryShort, match="8 slots of 2048 tokens take 16384000 bytes, and 16383999 are allowed"):
        deal_out(Limits(8, 2048, 16_383_999), TOKEN, MODEL_TOKENS, 10**12, SLOTS)
    with pytest.raises(MemoryShort, match="take 1000 bytes a token, and 7500 bytes are there for 1 slots"):
        deal_out(Limits(kv_bytes=10_000), TOKEN, MODEL_TOKENS, 10**12, SLOTS)
    with pytest.raises(MemoryShort, match="are there for 4 slots"):
        deal_out(Limits(slots=4), TOKEN, MODEL_TOKENS, 1000, SLOTS)


@pytest.mark.parametrize(
    "limits", [Limits(8, 2048, 1000), Limits(kv_bytes=1000), Limits(slots=4, kv_bytes=1), Limits(None, 4000, 10**6)]
)
def test_what_is_too_little_memory_is_told_with_what_would_be_enough(limits: Limits) -> None:
    with pytest.raises(MemoryShort) as caught:
        deal_out(limits, TOKEN, MODEL_TOKENS, 10**12, SLOTS)
    found = re.search(r"--kv-memory (\d+)MB", caught.value.hint or "")
    assert found
    deal_out(replace(limits, kv_bytes=int(found[1]) * 10**6), TOKEN, MODEL_TOKENS, 10**12, SLOTS)


def test_states_have_their_place_beside_keys_and_values() -> None:
    states = 5000 * TOKEN
    room = deal_out(DEFAULT_LIMITS, TOKEN, MODEL_TOKENS, 4 * 100_000 * TOKEN, 32, states)
    assert room.slots == 75_000 // (ENOUGH_CONTEXT_TOKENS + 5000)
    assert room.context_tokens == 75_000 // room.slots - 5000
    assert room.cache_bytes == (100_000 - room.slots * (room.context_tokens + 5000)) * TOKEN
    with pytest.raises(MemoryShort, match="8 slots of 2048 tokens take 56384000 bytes"):
        deal_out(Limits(8, 2048, 16_384_000), TOKEN, MODEL_TOKENS, 0, SLOTS, states)
    with pytest.raises(MemoryShort, match="1000 bytes a token and states 5000000 bytes a slot") as caught:
        deal_out(Limits(slots=4, kv_bytes=10**7), TOKEN, MODEL_TOKENS, 0, SLOTS, states)
    enough = int(re.findall(r"--kv-memory (\d+)MB", caught.value.hint or "")[0]) * 10**6
    assert deal_out(Limits(slots=4, kv_bytes=enough), TOKEN, MODEL_TOKENS, 0, SLOTS, states).slots == 4
    said = why_cut(Room(2, 100, 0), TOKEN, MODEL_TOKENS, Limits(), states) or ""
    assert f"--kv-memory {2 * (MODEL_TOKENS + 5000) * TOKEN * 4 // 3 // 10**6 + 1}MB" in said


def test_a_context_that_memory_cut_is_told_with_what_would_hold_all() -> None:
    limits = Limits(slots=1, kv_bytes=10**7)
    room = deal_out(limits, TOKEN, MODEL_TOKENS, 0, SLOTS)
    said = why_cut(room, TOKEN, MODEL_TOKENS, limits) or ""
    assert said.startswith("memory cut the context from 32,768 tokens to 7,500")
    found = re.search(r"--kv-memory (\d+)MB", said)
    assert found
    enough = Limits(slots=1, kv_bytes=int(found[1]) * 10**6)
    whole = deal_out(enough, TOKEN, MODEL_TOKENS, 0, SLOTS)
    assert whole.context_tokens == MODEL_TOKENS
    assert why_cut(whole, TOKEN, MODEL_TOKENS, enough) is None
    # What was asked for is not cut.
    asked = why_cut(Room(1, 100, 0), TOKEN, MODEL_TOKENS, Limits(context_tokens=100)) or ""
    assert "limited so" in asked


maybe = st.none() | st.integers(1, 64)


@given(maybe, st.none() | st.integers(1, 100_000), st.none() | st.integers(0, 10**10), st.integers(1, 10**11))
def test_nothing_is_dealt_out_twice(
    slots: int | None, context: int | None, kv_bytes: int | None, available: int
) -> None:
    try:
        room = deal_out(Limits(slots, context, kv_bytes), TOKEN, MODEL_TOKENS, available, SLOTS)
    except MemoryShort:
        return
    budget = available // 4 if kv_bytes is None else kv_bytes
    assert room.slots * room.context_tokens * TOKEN + room.cache_bytes <= budget
    assert room.cache_bytes >= 0
    assert room.slots == (slots or room.slots)
    assert 1 <= room.context_tokens <= MODEL_TOKENS
    if context:
        assert room.context_tokens == min(context, MODEL_TOKENS)


def test_what_was_measured_is_known_from_the_beginning() -> None:
    trial = Trial(Setting(2), 0.003, 0.012)
    tuning = Tuning(2, None, 8, {1: 0.012, 5: 0.017, 9: 0.025}, {1: 0.011, 2: 0.012, 8: 0.04}, "now", {}, "", (trial,))
    times = times_of(tuning)
    assert (times.check_s(1), times.check_s(9)) == (0.011, 0.025)
    assert times.step_s(8) == 0.04
    # 80 ms after the first token's 11, in tokens of between 1.5 and 1.75 ms.
    assert 46 <= times.tokens_in(0.091) <= 54


@pytest.mark.slow
def test_a_graph_that_cannot_be_batched_is_run_by_genai_which_is_said(fp32_folder: Path, tmp_path: Path) -> None:
    import onnx_ir

    folder = tmp_path / "package"
    shutil.copytree(fp32_folder, folder)
    model = onnx_ir.load(folder / "model.onnx")
    # The mask is used for something that only its shape is not enough for.
    mask = next(value for value in model.graph.inputs if value.name == "attention_mask")
    cast = onnx_ir.node("Cast", [mask], attributes={"to": onnx_ir.DataType.FLOAT}, name="mask_as_float")
    mean = onnx_ir.node("ReduceMax", [cast.outputs[0]], attributes={"keepdims": 0}, name="mask_max")
    logits = next(value for value in model.graph.outputs if value.name == "logits")
    scaled = onnx_ir.node("Mul", [logits, mean.outputs[0]], name="scaled")
    scaled.outputs[0].name, logits.name = "logits", "unscaled"
    scaled.outputs[0].type, scaled.outputs[0].shape = logits.type, logits.shape
    model.graph.extend([cast, mean, scaled])
    model.graph.outputs[model.graph.outputs.index(logits)] = scaled.outputs[0]
    onnx_ir.save(model, folder / "model.onnx")

    with pytest.raises(NotBatchable, match=r"logits|attention_mask"):
        load(folder, engine="batched")
    engine = load(folder)
    try:
        assert engine.name == "genai"
        assert engine.note
        assert "one answer after another" in engine.note
        answer = collect(engine.stream(Prompt((5, 6, 7)), Sampling(temperature=0.0, max_tokens=4, ignore_eos=True)))
        assert len(answer.tokens) == 4
    finally:
        engine.close()


@pytest.mark.slow
def test_a_short_context_is_told_at_once_and_where_a_prompt_does_not_fit(int4_folder: Path) -> None:
    with load(int4_folder, limits=Limits(slots=1, kv_bytes=100_000)) as engine:
        assert engine.note
        assert engine.note.startswith("memory cut the context from 512 tokens to ")
        with pytest.raises(ContextFull, match="since memory cut the context from 512 tokens"):
            engine.stream(Prompt((5,) * 500), Sampling())
    with load(int4_folder, limits=Limits(slots=1)) as engine:
        assert engine.note is None
