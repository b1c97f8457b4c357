"""What is chosen from measured times, what is kept where, and how one setting is timed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine import tune
from edgeship.engine.decoders import Chunk, Floats
from edgeship.engine.schedule import CHUNK_TOKENS
from edgeship.engine.tune import EXACT, PROMPT_TOKENS, Setting, Trial, Tuning, choose, measure, remember, remembered
from edgeship.engine.tune_worker import RUNS, Stopwatch, time_answers, time_steps
from edgeship.errors import EngineFailed, MemoryShort, NotBatchable, NotWritable
from edgeship.package import genai_config
from edgeship.package.manifest import Package
from edgeship.system import child, machine
from edgeship.system.machine import GIB, Machine
from tests.checkpoints import write_json
from tests.packages import GENAI_CONFIG, make_package

MACHINE = Machine(8, 4, 16 * GIB, 8 * GIB, "a CPU", "Linux x86_64")
DEFAULT = Setting(4)


@pytest.fixture(autouse=True)
def machine_of_four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "_taken_cores", lambda: 0.0)
    monkeypatch.setattr(machine, "this_machine", lambda: MACHINE)
    monkeypatch.setattr(machine, "usable_cores", lambda: MACHINE.cores_usable)


def foreign_package(folder: Path, provider: str | None = None) -> Path:
    """As another tool makes them: without a manifest."""
    options: list[dict[str, Any]] = [{provider: {}}] if provider else []
    decoder = GENAI_CONFIG["model"]["decoder"] | {"session_options": {"provider_options": options}}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / genai_config.FILE_NAME, GENAI_CONFIG | {"model": GENAI_CONFIG["model"] | {"decoder": decoder}})
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "model.onnx.data").write_bytes(b"weights")
    return folder


class Bench:
    """Answers to the jobs of `measure`, by a table of settings; every job takes its seconds on a clock of its own."""

    def __init__(self, times: Mapping[Setting, tuple[float, float]], *, quantized: bool = True) -> None:
        self.times = times
        self.quantized = quantized
        self.now = 0.0
        self.load_s = 2.0
        self.jobs: list[dict[str, Any]] = []

    def ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
        self.jobs.append(dict(job))
        self.now += self.load_s + job["seconds"]
        if job["what"] == "steps":
            return {"run_s": {"1": 0.01, "4": 0.02}, "batch_s": {"1": 0.01, "2": 0.012, "4": 0.024}, "slots": 2}
        tokens = job["prompt_tokens"] or PROMPT_TOKENS
        prompt_token_s, new_token_s = self.times[self.setting(job)]
        return {
            "prompt_tokens": tokens,
            "prompt_s": [prompt_token_s * tokens],
            "step_s": [new_token_s],
            "quantized": self.quantized,
        }

    def setting(self, job: Mapping[str, Any]) -> Setting:
        return Setting(job["threads"], job["accuracy_level"])

    def measure(self, folder: Path) -> Tuning:
        return measure(folder, ask=self.ask, clock=lambda: self.now)


def steady(*, quantized: bool = True, **changes: tuple[float, float]) -> Bench:
    """Threads share the work evenly, float32 takes twice as long; `changes` by names such as t2 or exact4."""
    times = {Setting(threads): (0.004 / threads, 0.08 / threads) for threads in range(1, 5)}
    times |= {Setting(threads, EXACT): (0.008 / threads, 0.16 / threads) for threads in range(1, 5)}
    for name, found in changes.items():
        times[Setting(int(name[-1]), EXACT if name.startswith("exact") else None)] = found
    return Bench(times, quantized=quantized)


def trial(threads: int, answer_s: float, accuracy_level: int | None = None) -> Trial:
    return Trial(Setting(threads, accuracy_level), 0.0, answer_s / tune.NEW_TOKENS)


# --- choosing --------------------------------------------------------------------------------------------------------


def test_the_default_stays_where_it_is_the_fastest(tmp_path: Path) -> None:
    bench = steady()
    tuning = bench.measure(foreign_package(tmp_path))
    assert (tuning.threads, tuning.accuracy_level, tuning.slots) == (4, None, 2)
    assert tuning.chosen == tuning.default
    assert tuning.speedup == 1
    assert tuning.step_s == {1: 0.01, 4: 0.02}
    assert tuning.batch_s == {1: 0.01, 2: 0.012, 4: 0.024}
    assert (tuning.cpu, set(tuning.versions)) == ("a CPU", {"onnxruntime", "edgeship"})


def test_a_faster_number_of_threads_is_taken(tmp_path: Path) -> None:
    tuning = steady(t2=(0.0005, 0.01)).measure(foreign_package(tmp_path))
    assert (tuning.threads, tuning.accuracy_level) == (2, None)
    assert tuning.default.setting == DEFAULT
    assert tuning.speedup == pytest.approx((512 * 0.001 + 64 * 0.02) / (512 * 0.0005 + 64 * 0.01))


def test_float32_activations_are_taken_where_prompt_and_answer_together_are_faster(tmp_path: Path) -> None:
    folder = foreign_package(tmp_path)
    # 512 x 0.001 + 64 x 0.02 = 1.792 s by default
    assert steady(exact4=(0.0002, 0.0255)).measure(folder).accuracy_level == EXACT
    assert steady(exact4=(0.0002, 0.0275)).measure(folder).accuracy_level is None
    assert steady(exact4=(0.0020, 0.0100)).measure(folder).accuracy_level == EXACT


def test_float32_is_tried_with_the_best_threads_and_only_where_it_is_something_else(tmp_path: Path) -> None:
    folder = foreign_package(tmp_path)
    bench = steady(t2=(0.0005, 0.01))
    bench.measure(folder)
    assert {bench.setting(job) for job in bench.jobs if job["accuracy_level"] is not None} == {Setting(2, EXACT)}
    plain = steady(quantized=False)
    plain.measure(folder)
    assert all(job["accuracy_level"] is None for job in plain.jobs)


def test_widths_are_measured_last_and_with_what_was_chosen(tmp_path: Path) -> None:
    bench = steady(t3=(0.0005, 0.01))
    bench.measure(foreign_package(tmp_path))
    assert [job["what"] for job in bench.jobs].count("steps") == 1
    assert (bench.jobs[-1]["what"], bench.setting(bench.jobs[-1])) == ("steps", Setting(3))


def test_all_settings_read_the_same_prompt(tmp_path: Path) -> None:
    bench = steady()
    bench.measure(foreign_package(tmp_path))
    asked = [job["prompt_tokens"] for job in bench.jobs if job["what"] == "answers"]
    assert asked[0] is None
    assert set(asked[1:]) == {PROMPT_TOKENS}


def test_close_settings_are_measured_again_with_the_default(tmp_path: Path) -> None:
    bench = steady(quantized=False, t3=(0.0011, 0.0201))
    bench.measure(foreign_package(tmp_path))
    order = [bench.setting(job) for job in bench.jobs[:-1]]
    assert order == [Setting(4), Setting(3), Setting(2), Setting(4), Setting(3)]


def test_a_default_that_something_slowed_gets_a_second_chance(tmp_path: Path) -> None:
    bench = steady()
    honest = bench.ask

    def disturbed(job: Mapping[str, Any]) -> dict[str, Any]:
        found = honest(job)
        return found | {"step_s": [9.0]} if len(bench.jobs) == 1 else found

    tuning = measure(foreign_package(tmp_path), ask=disturbed, clock=lambda: bench.now)
    assert tuning.chosen == tuning.default == Trial(DEFAULT, 0.001, 0.02)
    assert {bench.setting(job) for job in bench.jobs if job["accuracy_level"]} == {Setting(4, EXACT)}


@pytest.mark.parametrize("load_s", [0.1, 2.0, 5.0])
def test_it_takes_less_than_a_minute_where_loading_is_quick(load_s: float, tmp_path: Path) -> None:
    bench = Bench({Setting(t, level): (0.001, 0.02) for t in range(1, 5) for level in (None, EXACT)})
    bench.load_s = load_s
    bench.measure(foreign_package(tmp_path))
    assert bench.now < 60


def test_fewer_threads_are_not_tried_once_they_are_much_slower(tmp_path: Path) -> None:
    bench = steady(t2=(0.003, 0.05))
    bench.measure(foreign_package(tmp_path))
    assert {job["threads"] for job in bench.jobs} == {4, 3, 2}


@pytest.mark.parametrize(("taken", "threads"), [(0.2, 2), (0.3, 4)])
def test_beside_other_programs_the_default_stays(
    taken: float, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_taken_cores", lambda: taken)
    tuning = steady(t2=(0.0005, 0.01)).measure(foreign_package(tmp_path))
    assert tuning.threads == threads
    assert tuning.busy == pytest.approx(taken)


def test_cores_that_others_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.undo()
    monkeypatch.setattr(psutil, "cpu_percent", lambda _interval, percpu: [100.0, 50.0, 0.0, 0.0] if percpu else None)
    monkeypatch.setattr(machine, "granted_cores", lambda: [0, 1, 2, 3])
    for usable, taken in ((4, 0.375), (3, 1 - 2.5 / 3), (2, 0.0)):
        monkeypatch.setattr(machine, "usable_cores", lambda usable=usable: usable)
        assert tune._taken_cores() == pytest.approx(taken)
    monkeypatch.setattr(machine, "granted_cores", lambda: [0, 1])
    assert tune._taken_cores() == pytest.approx(0.75)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=20), st.integers(0, 19))
def test_the_usual_time_is_one_that_was_measured_and_bears_slow_ones(times: list[float], slow: int) -> None:
    assert tune.usual(times) in times
    assert tune.usual([*times, 99.0]) <= max(times)
    assert tune.usual([1.0] * 20 + [50.0] * slow) == 1.0


TRIALS = st.lists(st.floats(0.1, 10), min_size=1, max_size=8).map(
    lambda times: [trial(number, seconds) for number, seconds in enumerate(times, 1)]
)


@given(TRIALS)
def test_the_choice_is_never_slower_than_the_default_nor_far_from_the_best(trials: list[Trial]) -> None:
    chosen = choose(trials)
    assert chosen.answer_s <= trials[0].answer_s
    assert chosen.answer_s <= 1.04 * min(each.answer_s for each in trials)


def test_a_gain_within_chance_does_not_change_the_default() -> None:
    assert choose([trial(4, 1.0), trial(2, 0.98)]).setting.threads == 4
    assert choose([trial(4, 1.0), trial(2, 0.95)]).setting.threads == 2


@pytest.mark.parametrize(
    ("cores", "physical", "expected"),
    [
        (1, 1, [1]),
        (2, 1, [2, 1]),
        (3, None, [3, 2, 1]),
        (4, 2, [4, 3, 2, 1]),
        (12, 6, [12, 8, 6, 4, 2, 1]),
        (12, None, [12, 8, 6, 4, 2, 1]),
        (20, 14, [20, 16, 14, 10, 8, 4, 2, 1]),
        (8, 64, [8, 4, 2, 1]),
    ],
)
def test_thread_counts(cores: int, physical: int | None, expected: list[int]) -> None:
    assert tune.thread_counts(cores, physical) == expected


# --- what cannot be measured -----------------------------------------------------------------------------------------


def test_a_package_for_another_provider_has_nothing_to_tune(tmp_path: Path) -> None:
    bench = steady()
    with pytest.raises(NotBatchable, match=r"nothing to tune.*'cuda'") as caught:
        bench.measure(foreign_package(tmp_path, "cuda"))
    assert caught.value.exit_code == 5
    assert bench.jobs == []


def test_a_graph_that_is_not_batchable_says_why(tmp_path: Path) -> None:
    def refuse(_: Mapping[str, Any]) -> dict[str, Any]:
        raise NotBatchable("its graph attends by Attention")

    with pytest.raises(NotBatchable, match="nothing to tune: its graph attends by Attention") as caught:
        measure(foreign_package(tmp_path), ask=refuse)
    assert "onnxruntime-genai" in (caught.value.hint or "")


@pytest.mark.parametrize(("status", "advice"), [(-9, "more memory"), (1, "edgeship cache verify")])
def test_a_measuring_process_that_dies(
    status: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> dict[str, Any]:
        raise child.Died(status, ["a last word"])

    monkeypatch.setattr(child, "run", die)
    with pytest.raises(EngineFailed if status > 0 else MemoryShort, match="a last word") as caught:
        measure(foreign_package(tmp_path))
    assert advice in (caught.value.hint or "")


# --- keeping ---------------------------------------------------------------------------------------------------------

TUNING = Tuning(
    threads=2,
    accuracy_level=None,
    slots=8,
    step_s={1: 0.01, 17: 0.05},
    batch_s={1: 0.01, 8: 0.03},
    measured_at="2026-11-22T10:00:00Z",
    versions={"onnxruntime": "1.31.0", "edgeship": "0.1.0"},
    cpu="a CPU",
    trials=(trial(4, 1.5), trial(2, 1.0), trial(2, 1.2, EXACT)),
    busy=0.25,
)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return make_package(tmp_path / "package")


def test_what_is_remembered_is_what_was_measured(own_home: Path, package: Package) -> None:
    before = {path: path.read_bytes() for path in package.folder.iterdir()}
    assert remembered(own_home, package.folder) is None
    file = remember(own_home, package.folder, TUNING)
    assert remembered(own_home, package.folder) == TUNING
    assert file.is_relative_to(own_home / "tuning")
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert {path: path.read_bytes() for path in package.folder.iterdir()} == before


def test_the_newest_measurement_counts(own_home: Path, package: Package) -> None:
    remember(own_home, package.folder, TUNING)
    newer = dataclasses.replace(TUNING, slots=4)
    remember(own_home, package.folder, newer)
    assert remembered(own_home, package.folder) == newer


@pytest.mark.parametrize(
    "change", [{"cores_usable": 3}, {"cpu": "another CPU"}, {"memory_available_bytes": GIB}], ids=str
)
def test_another_cpu_or_other_cores_are_another_machine(
    change: dict[str, Any], own_home: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(own_home, package.folder, TUNING)
    monkeypatch.setattr(machine, "this_machine", lambda: dataclasses.replace(MACHINE, **change))
    assert (remembered(own_home, package.folder) is None) == ("memory_available_bytes" not in change)


def test_another_onnxruntime_is_another_machine(
    own_home: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(own_home, package.folder, TUNING)
    monkeypatch.setattr(tune, "runtime_version", lambda: "1.99.0")
    assert remembered(own_home, package.folder) is None


def test_the_same_model_under_another_name_needs_no_tuning(own_home: Path, package: Package, tmp_path: Path) -> None:
    remember(own_home, package.folder, TUNING)
    copy = make_package(tmp_path / "copy")
    assert remembered(own_home, copy.folder) == TUNING
    other = make_package(tmp_path / "other", weights=b"v" * 5000)
    assert remembered(own_home, other.folder) is None


def test_a_package_of_another_tool_is_known_by_its_files(own_home: Path, tmp_path: Path) -> None:
    folder = foreign_package(tmp_path / "foreign")
    remember(own_home, folder, TUNING)
    assert remembered(own_home, folder) == TUNING
    (folder / "model.onnx.data").write_bytes(b"other weights")
    assert remembered(own_home, folder) is None


def test_a_folder_that_is_no_package_has_no_tuning(own_home: Path, tmp_path: Path) -> None:
    assert remembered(own_home, tmp_path / "nothing") is None


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda kept: kept | {"format": 2},
    "no format": lambda kept: {"tuning": kept["tuning"]},
    "a list": lambda kept: [kept],
    "a field is missing": lambda kept: kept | {"tuning": {"threads": 2}},
    "no threads": lambda kept: kept | {"tuning": kept["tuning"] | {"threads": 0}},
    "more threads than cores": lambda kept: kept | {"tuning": kept["tuning"] | {"threads": 5}},
    "threads of no trial": lambda kept: kept | {"tuning": kept["tuning"] | {"threads": 3}},
    "a less exact level": lambda kept: kept | {"tuning": kept["tuning"] | {"accuracy_level": 4}},
    "no slots": lambda kept: kept | {"tuning": kept["tuning"] | {"slots": 0}},
    "no time at all": lambda kept: kept | {"tuning": kept["tuning"] | {"batch_s": {"1": 0.0}}},
    "not a number": lambda kept: kept | {"tuning": kept["tuning"] | {"step_s": {"1": float("nan")}}},
    "words": lambda kept: kept | {"tuning": kept["tuning"] | {"batch_s": {"one": 1.0}}},
    "no trials": lambda kept: kept | {"tuning": kept["tuning"] | {"trials": []}},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_cannot_be_used_counts_as_none(damage: str, own_home: Path, package: Package) -> None:
    file = remember(own_home, package.folder, TUNING)
    file.write_text(json.dumps(DAMAGE[damage](json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")
    assert remembered(own_home, package.folder) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_file_that_is_no_json_counts_as_none(content: bytes, own_home: Path, package: Package) -> None:
    remember(own_home, package.folder, TUNING).write_bytes(content)
    assert remembered(own_home, package.folder) is None


def test_a_home_that_cannot_be_written_is_named(own_home: Path, package: Package) -> None:
    (own_home / "tuning").write_text("in the way")
    with pytest.raises(NotWritable) as caught:
        remember(own_home, package.folder, TUNING)
    assert "EDGESHIP_HOME" in (caught.value.hint or "")


# --- timing ----------------------------------------------------------------------------------------------------------


class FakeDecoder:
    """Takes the seconds that `cost` says, on its own clock."""

    name = "fake"
    threads = 1
    keeps_prefixes = True
    goes_back = True

    def __init__(
        self, cost: Callable[[Sequence[Chunk]], float], *, slots: int = 32, context_tokens: int = 529, vocab: int = 100
    ) -> None:
        self.cost, self.slots, self.context_tokens, self.vocab_size = cost, slots, context_tokens, vocab
        self.now = 0.0
        self.held = [0] * slots
        self.steps: list[list[Chunk]] = []

    def step(self, chunks: Sequence[Chunk], *, invariant: bool = False) -> list[Floats]:
        del invariant
        for chunk in chunks:
            held = self.held[chunk.slot]
            assert chunk.start <= held if self.goes_back else chunk.start in (0, held)
            assert all(0 <= token < self.vocab_size for token in chunk.tokens)
            self.held[chunk.slot] = chunk.start + len(chunk.tokens)
            assert self.held[chunk.slot] <= self.context_tokens
        self.steps.append(list(chunks))
        self.now += self.cost(chunks)
        return [np.zeros((chunk.wanted, self.vocab_size), np.float32) for chunk in chunks]

    def read(self, slot: int, start: int, end: int) -> Floats:
        assert end <= self.held[slot]
        return np.zeros((2, end - start, 1), np.float32)

    def write(self, slot: int, start: int, entries: Floats) -> None:
        self.held[slot] = start + entries.shape[1]

    def read_state(self, slot: int) -> Floats:  # noqa: ARG002
        return np.empty(0, np.float32)

    def write_state(self, slot: int, state: Floats) -> None:
        pass

    def release(self, slot: int) -> None:
        self.held[slot] = 0

    def settle(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def watch(self) -> Stopwatch:
        return Stopwatch(self, lambda: self.now)


def by_tokens(chunks: Sequence[Chunk]) -> float:
    return 0.01 + 0.001 * sum(len(chunk.tokens) for chunk in chunks)


def test_an_answer_is_timed_as_the_engine_reads_and_writes_one() -> None:
    decoder = FakeDecoder(by_tokens)
    found = time_answers(decoder.watch(), 5.0)
    assert found["prompt_tokens"] == PROMPT_TOKENS
    chunks = PROMPT_TOKENS // CHUNK_TOKENS
    assert found["prompt_s"] == pytest.approx([chunks * 0.01 + PROMPT_TOKENS * 0.001] * len(found["prompt_s"]))
    assert found["step_s"] == pytest.approx([0.011] * len(found["step_s"]))
    # The last chunk of a prompt gives logits, the others none; what follows stands after the prompt.
    last, then = decoder.steps[-9][0], decoder.steps[-1][0]
    assert (last.start, last.wanted, then.start, then.wanted) == (PROMPT_TOKENS - CHUNK_TOKENS, 1, PROMPT_TOKENS, 1)
    assert decoder.now < 6.0


def test_a_slow_model_reads_a_shorter_prompt() -> None:
    slow = FakeDecoder(lambda chunks: 0.05 * sum(len(chunk.tokens) for chunk in chunks))
    found = time_answers(slow.watch(), 12.0)
    assert found["prompt_tokens"] == 64
    assert slow.now < 15.0
    again = time_answers(FakeDecoder(by_tokens).watch(), 12.0, 64)
    assert again["prompt_tokens"] == 64


def test_a_decoder_with_states_is_timed_though_it_cannot_go_back() -> None:
    usual, with_states = FakeDecoder(by_tokens), FakeDecoder(by_tokens)
    with_states.goes_back = False
    assert time_steps(with_states.watch(), 1.0) == time_steps(usual.watch(), 1.0)
    assert time_answers(with_states.watch(), 5.0) == time_answers(usual.watch(), 5.0)


@pytest.mark.parametrize("context_tokens", [18, 20, 64, 300])
def test_a_short_context_is_kept_to(context_tokens: int) -> None:
    decoder = FakeDecoder(by_tokens, context_tokens=context_tokens, vocab=3)
    assert time_answers(decoder.watch(), 5.0)["prompt_tokens"] == context_tokens - max(RUNS)
    found = time_steps(decoder.watch(), 1.0)
    assert set(found["run_s"]) == set(RUNS)


@given(st.integers(1, 17))
def test_any_context_that_holds_a_token_and_the_next_can_be_timed(context_tokens: int) -> None:
    decoder = FakeDecoder(by_tokens, context_tokens=context_tokens + 1)
    assert time_answers(decoder.watch(), 1.0)["prompt_tokens"] >= 1
    assert 1 in time_steps(decoder.watch(), 1.0)["run_s"]


def rows_cost(*seconds: float) -> Callable[[Sequence[Chunk]], float]:
    """Steps of 1, 2, 4, 8, ... sequences take so long; runs of one take 1 s and more."""

    def cost(chunks: Sequence[Chunk]) -> float:
        single = all(len(chunk.tokens) == 1 for chunk in chunks)
        return seconds[len(chunks).bit_length() - 1] if single else 1.0 + len(chunks[0].tokens)

    return cost


@pytest.mark.parametrize(
    ("seconds", "slots", "measured"),
    [
        ((0.1, 0.2, 0.4), 1, {1, 2, 4}),
        ((0.1, 0.11, 0.2, 0.4, 0.8, 1.6), 4, {1, 2, 4, 8, 16}),
        ((0.1, 0.11, 0.215, 0.3, 0.6, 1.2), 8, {1, 2, 4, 8, 16, 32}),
        ((0.1, 0.1, 0.1, 0.1, 0.1, 0.1), 32, {1, 2, 4, 8, 16, 32}),
        ((0.1, 0.21, 0.37, 0.8, 1.6), 1, {1, 2, 4, 8, 16}),
    ],
    ids=["none pays", "up to four", "a number in between brings nothing", "all pay", "too little for two doublings"],
)
def test_more_answers_at_once_as_long_as_they_bring_more_tokens(
    seconds: tuple[float, ...], slots: int, measured: set[int]
) -> None:
    decoder = FakeDecoder(rows_cost(*seconds), slots=2 ** (len(seconds) - 1))
    found = time_steps(decoder.watch(), 1000.0)
    assert found["slots"] == slots
    assert set(found["batch_s"]) <= measured
    assert found["batch_s"] == pytest.approx({count: seconds[count.bit_length() - 1] for count in found["batch_s"]})
    assert slots in found["batch_s"]


def test_numbers_that_bring_nothing_end_the_search() -> None:
    found = time_steps(FakeDecoder(rows_cost(0.1, 0.15, 0.31, 0.62, 1.3, 2.7)).watch(), 1000.0)
    assert (found["slots"], set(found["batch_s"])) == (2, {1, 2, 4, 8})


def test_a_slow_model_is_not_tried_with_many() -> None:
    slow = FakeDecoder(rows_cost(*[3.0] * 6))
    found = time_steps(slow.watch(), 8.0)
    assert set(found["batch_s"]) == {1, 2}
    assert found["slots"] == 2


def test_a_disturbance_slows_no_number_more_than_another() -> None:
    honest = rows_cost(0.1, 0.15, 0.25, 0.45, 0.95, 2.0)
    decoder = FakeDecoder(by_tokens)

    def disturbed(chunks: Sequence[Chunk]) -> float:
        return honest(chunks) * (3.0 if 100 < decoder.now < 300 else 1.0)

    decoder.cost = disturbed
    found = time_steps(decoder.watch(), 2000.0)
    assert found["batch_s"] == pytest.approx({1: 0.1, 2: 0.15, 4: 0.25, 8: 0.45, 16: 0.95, 32: 2.0})
    assert found["slots"] == 8


def test_slots_bound_the_width() -> None:
    assert time_steps(FakeDecoder(rows_cost(*[0.1] * 6), slots=6).watch(), 1000.0)["slots"] == 4
    alone = time_steps(FakeDecoder(rows_cost(0.1), slots=1).watch(), 1000.0)
    assert (alone["slots"], alone["batch_s"]) == (1, pytest.approx({1: 0.1}))


def test_runs_ask_for_the_logits_of_every_token() -> None:
    decoder = FakeDecoder(by_tokens)
    found = time_steps(decoder.watch(), 4.0)
    assert found["run_s"] == pytest.approx({count: 0.01 + 0.001 * count for count in RUNS})
    runs = [chunks[0] for chunks in decoder.steps if len(chunks) == 1 and chunks[0].start == tune_depth(decoder)]
    assert all(chunk.wanted == len(chunk.tokens) for chunk in runs)
    assert {len(chunk.tokens) for chunk in runs} == set(RUNS)


def tune_depth(decoder: FakeDecoder) -> int:
    return max(chunk.start for chunks in decoder.steps for chunk in chunks)


# --- for real --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_package(int4_folder: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeship.system.machine import usable_cores

    monkeypatch.setattr(tune, "_ANSWERS_S", 0.2)
    monkeypatch.setattr(tune, "_STEPS_S", 0.5)
    monkeypatch.setattr(tune, "_BUDGET_S", 2.0)
    monkeypatch.setattr(machine, "this_machine", lambda: dataclasses.replace(MACHINE, cores_usable=1))
    tuning = measure(int4_folder)
    assert 1 <= tuning.threads <= usable_cores()
    assert {trial.setting for trial in tuning.trials} >= {Setting(1), Setting(1, EXACT)}
    assert tuning.slots in tuning.batch_s
    assert set(tuning.step_s) == set(RUNS)
    remember(own_home, int4_folder, tuning)
    assert remembered(own_home, int4_folder) == tuning


@pytest.mark.slow
def test_a_model_that_is_not_quantized_has_one_accuracy(fp32_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "_ANSWERS_S", 0.1)
    monkeypatch.setattr(tune, "_STEPS_S", 0.2)
    monkeypatch.setattr(machine, "this_machine", lambda: dataclasses.replace(MACHINE, cores_usable=1))
    assert [trial.setting for trial in measure(fp32_folder).trials] == [Setting(1)]
