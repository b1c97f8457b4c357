"""Sequences with states, many at a time, against each read by itself from its first token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.engine.decoders import Chunk, Floats, kept
from edgeship.engine.decoders.onnx import OnnxDecoder
from edgeship.engine.decoders.step_graph import derive
from edgeship.engine.tune_worker import RUNS, Stopwatch, time_steps
from edgeship.errors import EngineFailed, NotBatchable
from tests.checkpoints import VOCAB, write_json
from tests.hybrid import CONTEXT_TOKENS, HEAD_SIZE, STATE_FLOATS, TOKEN_FLOATS, Plain, make_hybrid
from tests.packages import config_of

CLOSE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hybrid(tmp_path_factory.mktemp("hybrid"))


@pytest.fixture(scope="module")
def plain(folder: Path) -> Plain:
    return Plain(folder)


@pytest.fixture
def decoder(folder: Path) -> OnnxDecoder:
    return open_decoder(folder)


def open_decoder(folder: Path, slots: int = 4, threads: int = 1) -> OnnxDecoder:
    return OnnxDecoder(config_of(folder), threads=threads, slots=slots, context_tokens=CONTEXT_TOKENS)


def text(seed: int, length: int) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(3, VOCAB, length).tolist()
    return found


def read(decoder: OnnxDecoder, slot: int, tokens: list[int], *cuts: int) -> Floats:
    """Logits after the last of the tokens, which are read from the first on, in parts."""
    for start, end in zip((0, *cuts), (*cuts, len(tokens)), strict=True):
        [logits] = decoder.step([Chunk(slot, tokens[start:end], start, 1, reading=True)])
    last: Floats = logits[0].copy()
    return last


def near(found: Floats, expected: Floats) -> bool:
    return bool(np.abs(found - expected).max() < CLOSE * np.ptp(expected))


def test_what_is_kept_is_read_from_the_graph(folder: Path) -> None:
    found = kept.of_package(config_of(folder))
    assert (found.token_bytes, found.state_bytes) == (4 * TOKEN_FLOATS, 4 * STATE_FLOATS)
    assert [cache.past for cache in found.caches][::2] == ["past_key_values.1.key", "past_key_values.4.key"]
    assert found.states[1].past == "past.0.recurrent"
    assert [(cache.heads, cache.size) for cache in found.caches] == [(1, 16), (1, 16), (1, 32), (1, 32)]


@pytest.mark.parametrize("length", [1, 2, 3, 20, 31])
def test_logits_are_the_packages_own_wherever_a_text_is_cut(decoder: OnnxDecoder, plain: Plain, length: int) -> None:
    tokens = text(1, length)
    [all_of_them] = decoder.step([Chunk(0, tokens, 0, length)])
    assert all(near(all_of_them[end], plain.logits(tokens[: end + 1])) for end in range(length))
    for cuts in ((1,), (7,), (2, 10, 21), tuple(range(1, length)), tuple(range(3, length, 3))):
        inside = [cut for cut in cuts if cut < length]
        assert near(read(decoder, 0, tokens, *inside), plain.logits(tokens)), cuts


@pytest.mark.parametrize("length", [30, 31])
def test_a_result_does_not_depend_on_cuts_at_even_places(decoder: OnnxDecoder, length: int) -> None:
    tokens = text(2, length)
    whole = read(decoder, 0, tokens)
    for cuts in ((2,), (16,), (4, 10, 22), tuple(range(2, length, 2))):
        assert np.array_equal(read(decoder, 0, tokens, *cuts), whole), cuts


def test_answers_that_come_and_go_are_those_given_alone(folder: Path, plain: Plain) -> None:
    generator = np.random.default_rng(3)
    decoder, slots = open_decoder(folder), 4
    running: dict[int, tuple[list[int], int, list[int]]] = {}  # slot -> what it was told, how many held, expected
    finished = 0
    for number in range(160):
        for slot in set(range(slots)) - set(running):
            if generator.random() < 0.4:
                prompt = text(1000 + number * slots + slot, int(generator.integers(1, 30)))
                running[slot] = (prompt, 0, prompt + plain.greedy(prompt, 8))
        chunks = []
        for slot, (tokens, held, _) in running.items():
            if generator.random() < 0.8:
                most = int(generator.integers(1, 12))
                chunks.append(Chunk(slot, tokens[held : held + most], held, 1, reading=len(tokens) - held > 1))
        for chunk, logits in zip(chunks, decoder.step(chunks, invariant=number % 2 == 0), strict=True):
            tokens, held, expected = running[chunk.slot]
            held += len(chunk.tokens)
            if held == len(tokens):
                tokens = [*tokens, int(logits[-1].argmax())]
            running[chunk.slot] = (tokens, held, expected)
            assert tokens == expected[: len(tokens)], (number, chunk)
            # Some end in the middle of their prompt or answer, as those that are cancelled.
            if len(tokens) == len(expected) or generator.random() < 0.05:
                finished += len(tokens) == len(expected)
                decoder.release(chunk.slot)
                del running[chunk.slot]
    assert finished > 10


@pytest.mark.parametrize("threads", [1, 2])
def test_every_row_of_an_invariant_batch_is_what_it_is_in_any_other(folder: Path, threads: int) -> None:
    slots = 5
    decoder = open_decoder(folder, slots, threads)
    prompts = [text(slot, 7) for slot in range(slots)]

    def logits_of(chosen: tuple[int, ...]) -> dict[int, Floats]:
        for slot, prompt in enumerate(prompts):
            read(decoder, slot, prompt)
        found = decoder.step([Chunk(slot, [9 + slot], 7, 1) for slot in chosen], invariant=True)
        copies = {slot: logits.copy() for slot, logits in zip(chosen, found, strict=True)}
        # Rows that took no part are as they were.
        others = [slot for slot in range(slots) if slot not in chosen]
        for slot, logits in zip(others, decoder.step([Chunk(slot, [9 + slot], 7, 1) for slot in others]), strict=True):
            assert near(logits[0], whole[slot][0]) if whole else True
        return copies

    whole: dict[int, Floats] = {}
    whole = logits_of(tuple(range(slots)))
    for chosen in ((0,), (0, 1), (0, 1, 2), (0, 2), (0, 1, 3), (1, 2, 4), (3,), (4,)):
        found = logits_of(chosen)
        assert all(np.array_equal(found[slot], whole[slot]) for slot in chosen), chosen


def test_a_row_that_fills_a_batch_up_begins_anew_in_the_same_step(decoder: OnnxDecoder, plain: Plain) -> None:
    """A text of one token that is answered at once stands in a row beside, and has its state cleared already."""
    read(decoder, 0, text(1, 6))
    read(decoder, 1, text(2, 6))
    decoder.release(1)
    first, second = decoder.step([Chunk(0, [5], 6, 1), Chunk(1, [8], 0, 1, reading=True)], invariant=True)
    assert near(second[0], plain.logits([8]))
    assert near(first[0], plain.logits([*text(1, 6), 5]))


def test_rows_that_move_take_their_states_with_them(decoder: OnnxDecoder, plain: Plain) -> None:
    for slot in range(4):
        read(decoder, slot, text(slot, 9))
    for slot in (0, 1):
        decoder.release(slot)
    found = decoder.step([Chunk(2, [7], 9, 1), Chunk(3, [8], 9, 1)])
    assert near(found[0][0], plain.logits([*text(2, 9), 7]))
    assert near(found[1][0], plain.logits([*text(3, 9), 8]))


def test_a_slot_that_is_used_anew_begins_with_nothing(decoder: OnnxDecoder, plain: Plain) -> None:
    for length in (9, 8):
        read(decoder, 0, text(1, length))
        assert near(read(decoder, 0, text(2, length)), plain.logits(text(2, length)))
        decoder.release(0)
        assert near(read(decoder, 0, text(3, length)), plain.logits(text(3, length)))


def test_a_text_goes_on_elsewhere_from_its_state_and_from_nowhere_else(decoder: OnnxDecoder, plain: Plain) -> None:
    tokens = text(4, 20)
    read(decoder, 0, tokens[:12])
    entries, state = decoder.read(0, 0, 12), decoder.read_state(0)
    assert (entries.shape, state.shape) == ((TOKEN_FLOATS // HEAD_SIZE, 12, HEAD_SIZE), (STATE_FLOATS,))
    read(decoder, 0, text(5, 30))
    decoder.write(2, 0, entries[:, :5])
    decoder.write(2, 5, entries[:, 5:])
    decoder.write_state(2, state)
    [found] = decoder.step([Chunk(2, tokens[12:], 12, 1, reading=True)])
    assert near(found[0], plain.logits(tokens))
    assert not decoder.goes_back
    with pytest.raises(EngineFailed, match="slot 2 holds a state after 20 tokens, not 14"):
        decoder.step([Chunk(2, tokens[14:], 14, 1)])


def test_it_is_timed_from_the_same_place_again_and_again(decoder: OnnxDecoder) -> None:
    found = time_steps(Stopwatch(decoder), 0.1)
    assert found["slots"] in {1, 2, 4}
    assert list(found["run_s"]) == list(RUNS)


def change(folder: Path, made: Path, spoil: Any) -> Path:
    """A package whose graph was changed."""
    import onnx

    made.mkdir()
    write_json(made / "genai_config.json", config_of(folder).document)
    model = onnx.load_model(folder / "model.onnx")
    spoil(model.graph)
    onnx.save_model(model, made / "model.onnx")
    return made


def read_twice(graph: Any) -> None:
    import onnx

    graph.node.append(onnx.helper.make_node("Identity", ["past.0.recurrent"], ["more"]))
    graph.output.append(onnx.helper.make_tensor_value_info("more", 1, None))


def give_another(graph: Any) -> None:
    [node] = [node for node in graph.node if "present.2.conv" in node.output]
    node.output[1] = "raw"
    import onnx

    graph.node.append(onnx.helper.make_node("Neg", ["raw"], ["present.2.conv"]))


def keep_several(graph: Any) -> None:
    import onnx

    node = next(node for node in graph.node if node.op_type == "LinearAttention")
    node.attribute.append(onnx.helper.make_attribute("state_window", 2))


@pytest.mark.parametrize("spoil", [read_twice, give_another, keep_several])
def test_a_state_that_cannot_be_written_where_it_is_read_is_left_to_others(
    folder: Path, tmp_path: Path, spoil: Any
) -> None:
    made = change(folder, tmp_path / "made", spoil)
    with pytest.raises(NotBatchable, match=r"its graph reads past\.\d\.(recurrent|conv) by \w+ in a way"):
        derive(made / "model.onnx", config_of(made))


def test_a_state_of_open_size_is_left_to_others(folder: Path, tmp_path: Path) -> None:
    def widen(graph: Any) -> None:
        [value] = [value for value in graph.input if value.name == "past.2.conv"]
        value.type.tensor_type.shape.dim[1].dim_param = "channels"

    made = change(folder, tmp_path / "made", widen)
    found = kept.of_package(config_of(made))
    assert found.token_bytes == 4 * TOKEN_FLOATS
    with pytest.raises(NotBatchable, match=r"does not say how large past\.2\.conv is"):
        _ = found.state_bytes
