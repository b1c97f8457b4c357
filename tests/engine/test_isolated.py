"""What an engine in a process of its own does when that process is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from edgeship.engine.answer import ask
from edgeship.engine.api import Conversation, Limits, Sampling
from edgeship.engine.isolated import IsolatedEngine
from edgeship.errors import EngineFailed
from tests import scripted
from tests.scripted import write_script

pytestmark = pytest.mark.slow

QUESTION = Conversation([{"role": "user", "content": "hello"}])
FOR_EVER = Sampling(ignore_eos=True, max_tokens=10**6)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[IsolatedEngine]:
    write_script(tmp_path, {"hello": "Good day to you."}, delay_s=0.001)
    loaded = IsolatedEngine(tmp_path, engine=scripted.ENGINE, limits=Limits(slots=4))
    yield loaded
    loaded.close()


def test_a_killed_process_costs_its_answers_and_nothing_more(engine: IsolatedEngine) -> None:
    streams = [engine.stream(engine.render(QUESTION), FOR_EVER) for _ in range(3)]
    for stream in streams:
        next(stream)
    first = engine.pid
    psutil.Process(first).kill()
    for stream in streams:
        with pytest.raises(EngineFailed, match="the engine's process was killed") as caught:
            list(stream)
        assert "Ask again" in str(caught.value.hint)
    assert ask(engine, engine.render(QUESTION), Sampling()).text == "Good day to you."
    assert engine.pid != first
    assert not psutil.pid_exists(first)


def test_many_answers_at_the_same_time(engine: IsolatedEngine) -> None:
    prompt = engine.render(QUESTION)
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: ask(engine, prompt, Sampling()).text, range(100)))
    assert set(texts) == {"Good day to you."}
    assert not engine._worker._calls


def test_a_dropped_answer_is_cancelled_in_the_process(engine: IsolatedEngine) -> None:
    streams = [engine.stream(engine.render(QUESTION), FOR_EVER) for _ in range(4)]
    for stream in streams:
        next(stream)
    streams.clear()
    # All four slots were taken: an answer only comes where they are free again.
    assert ask(engine, engine.render(QUESTION), Sampling()).text == "Good day to you."


def test_what_loading_raises_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"scripted\.json cannot be read"):
        IsolatedEngine(tmp_path, engine=scripted.ENGINE)


def test_a_process_that_dies_while_it_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deadly.py").write_text("import os\nprint('no good', flush=True)\nos._exit(7)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("edgeship.engine.isolated._WORKER", "deadly")
    with pytest.raises(EngineFailed, match="the engine's process ended with status 7"):
        IsolatedEngine(tmp_path, engine=scripted.ENGINE)


def test_nothing_is_left_when_it_is_closed(tmp_path: Path) -> None:
    write_script(tmp_path, {})
    handles = psutil.Process().num_fds() if hasattr(psutil.Process(), "num_fds") else 0
    for _ in range(3):
        engine = IsolatedEngine(tmp_path, engine=scripted.ENGINE)
        stream = engine.stream(engine.render(QUESTION), FOR_EVER)
        next(stream)
        pid = engine.pid
        engine.close()
        with pytest.raises(EngineFailed):
            list(stream)
        assert not psutil.pid_exists(pid)
    if handles:
        assert psutil.Process().num_fds() <= handles + 1
    assert json.loads((tmp_path / "scripted.json").read_text(encoding="utf-8"))["answers"] == {}
