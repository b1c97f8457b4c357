"""What is open at the same time, who waits for it, and when it is closed."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from edgeship.engine.answer import ask
from edgeship.engine.api import Chat, Conversation, Limits, Sampling, Stats
from edgeship.engine.isolated import IsolatedEngine
from edgeship.errors import EngineBusy, EngineFailed, MemoryShort, ModelUnknown, ServerEnding
from edgeship.serve.catalog import Catalog
from edgeship.serve.models import ModelCard, Pool
from edgeship.settings import Settings
from edgeship.store import packages
from edgeship.system import machine
from edgeship.system.memory import resident_bytes
from edgeship.targets import Target
from tests import scripted
from tests.packages import make_package

HERE = Settings(home=Path("home"), cache_dir=Path("home/models"), config_file=Path("home/config.toml"))
QUESTION = Conversation([{"role": "user", "content": "hello"}])
FOR_EVER = Sampling(ignore_eos=True, max_tokens=10**6)


def card(name: str, size_bytes: int = 10, *aliases: str) -> ModelCard:
    """A model without files here, which counts with its size."""
    return ModelCard(name, Target("url", f"http://{name}/v1", HERE), aliases, 0, size_bytes, None)


class Shelf:
    """Opens chats that do nothing, and knows what is open; called by threads.

    failing: models that cannot be opened. gate: opening waits for it.
    """

    def __init__(self, budget_bytes: int = 10**9) -> None:
        self.budget_bytes = budget_bytes
        self.failing: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.opened: list[str] = []
        self.open: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.faults: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, card: ModelCard) -> Chat:
        with self._lock:
            self.opened.append(card.id)
            if card.id in self.open:
                self.faults.append(f"{card.id} is opened twice")
            self.open[card.id] = card.size_bytes or 0
            if sum(self.open.values()) > self.budget_bytes:
                self.faults.append(f"{self.open} is more than {self.budget_bytes}")
        assert self.gate.wait(60)
        if card.id in self.failing:
            with self._lock:
                del self.open[card.id]
            raise EngineFailed(f"{card.id} is damaged")
        return cast(Chat, _Idle(self, card.id))

    def close(self, name: str) -> None:
        with self._lock:
            if self.used.get(name):
                self.faults.append(f"{name} is closed while it is used")
            del self.open[name]


class _Idle:
    context_tokens = 100

    def __init__(self, shelf: Shelf, name: str) -> None:
        self._shelf, self.name = shelf, name

    def stats(self) -> Stats:
        return Stats(1, 2, 4)

    def close(self) -> None:
        self._shelf.close(self.name)


Work = Callable[[Pool], Coroutine[Any, Any, None]]


def run(work: Work, *cards: ModelCard, shelf: Shelf | None = None, **given: Any) -> Shelf:
    """Does the work with a pool of these models and closes it; the shelf, on which all is in order."""
    shelf = shelf or Shelf()
    options: dict[str, Any] = {"cards": cards, "settings": HERE, "memory_bytes": shelf.budget_bytes, "open_chat": shelf}
    options |= given

    async def all_of_it() -> None:
        pool = Pool(**options)
        try:
            async with asyncio.timeout(120):
                await work(pool)
        finally:
            shelf.gate.set()
            await pool.close()

    asyncio.run(all_of_it())
    assert not shelf.faults
    assert not shelf.open
    return shelf


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def use(pool: Pool, name: str, **options: Any) -> str:
    async with pool.use(name, **options) as opened:
        return opened.card.id


def names(pool: Pool) -> list[str]:
    return [each.card.id for each in pool.loaded()]


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_model_is_found_by_its_name_an_alias_and_by_none() -> None:
    async def work(pool: Pool) -> None:
        assert [pool.find(name).id for name in ("b", "small", None)] == ["b", "b", "a"]
        with pytest.raises(ModelUnknown, match="no model is called ''"):
            pool.find("")
        with pytest.raises(ModelUnknown, match="no model is called 'smal'") as caught:
            async with pool.use("smal"):
                pass
        assert str(caught.value.hint) == "Did you mean small? Models: a, b, small."
        with pytest.raises(ModelUnknown) as caught:
            pool.find("small" * 10**6)
        assert str(caught.value.hint) == "Models: a, b, small."

    run(work, card("a"), card("b", 10, "small"))


def test_where_nothing_is_served_no_name_is_known() -> None:
    async def work(pool: Pool) -> None:
        with pytest.raises(ModelUnknown, match="no model is served"):
            pool.find(None)

    run(work)


def test_a_model_may_get_another_name_and_one_that_is_served_no_more_is_closed() -> None:
    served = [card("a"), card("b"), card("c")]

    async def work(pool: Pool) -> None:
        nonlocal served
        for name in "abc":
            await use(pool, name)
        async with pool.use("c"):
            served = [replace(served[0], size_bytes=11, aliases=("old",)), card("d")]
            async with pool.use("old") as opened:
                assert opened.card.aliases == ("old",)
            assert names(pool) == ["a", "c"]
        assert names(pool) == ["a"]
        with pytest.raises(ModelUnknown):
            pool.find("b")

    run(work, cards=lambda: served)


# --- opening ---------------------------------------------------------------------------------------------------------


def test_a_model_is_opened_once_for_all_who_wait_and_kept() -> None:
    async def work(pool: Pool) -> None:
        assert set(await asyncio.gather(*(use(pool, "a") for _ in range(50)))) == {"a"}
        assert await use(pool, "a") == "a"
        [loaded] = pool.loaded()
        assert (loaded.memory_bytes, loaded.users, loaded.pid, loaded.restarts) == (10, 0, None, 0)
        assert loaded.expires_at is None
        assert await loaded.stats() == Stats(1, 2, 4)

    assert run(work, card("a")).opened == ["a"]


def test_a_failure_is_everybodys_and_the_next_one_tries_again() -> None:
    shelf = Shelf()
    shelf.failing.add("a")

    async def work(pool: Pool) -> None:
        failures = await asyncio.gather(*(use(pool, "a") for _ in range(3)), return_exceptions=True)
        assert [type(failure) for failure in failures] == [EngineFailed] * 3
        shelf.failing.clear()
        assert await use(pool, "a") == "a"

    assert run(work, card("a"), shelf=shelf).opened == ["a", "a"]


def test_who_waits_no_more_leaves_the_loading_to_the_others() -> None:
    shelf = Shelf()
    shelf.gate.clear()

    async def work(pool: Pool) -> None:
        first, second = (asyncio.create_task(use(pool, "a")) for _ in range(2))
        await until(lambda: bool(shelf.opened))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        shelf.gate.set()
        assert await second == "a"
        assert [each.users for each in pool.loaded()] == [0]

    assert run(work, card("a"), shelf=shelf).opened == ["a"]


def test_loading_keeps_nobody_else_waiting() -> None:
    shelf = Shelf()

    async def work(pool: Pool) -> None:
        await use(pool, "a")
        shelf.gate.clear()
        waiting = [asyncio.create_task(use(pool, name)) for name in "bcd"]
        await until(lambda: len(shelf.opened) == 3)
        # Two are opened at once, the third has its turn later; what is open answers, and threads are free.
        assert await use(pool, "a") == "a"
        assert await asyncio.to_thread(lambda: 1) == 1
        await pool.unload("a")
        shelf.gate.set()
        await asyncio.gather(*waiting)

    run(work, *map(card, "abcd"), shelf=shelf)


# --- room ------------------------------------------------------------------------------------------------------------


def test_the_least_recently_used_one_goes() -> None:
    async def work(pool: Pool) -> None:
        for name in "abac":
            await use(pool, name)
        assert names(pool) == ["a", "c"]
        await use(pool, "d")
        assert names(pool) == ["d"]

    shelf = Shelf(20)
    run(work, *map(card, "abc"), card("d", 20), shelf=shelf)
    assert shelf.opened == list("abcd")


def test_what_holds_nothing_stays() -> None:
    async def work(pool: Pool) -> None:
        for name in ("url", "a", "b"):
            await use(pool, name)
        assert names(pool) == ["url", "b"]

    run(work, card("url", 0), card("a"), card("b"), shelf=Shelf(10))


def test_what_is_larger_than_the_budget_is_refused_at_once_and_costs_nobody() -> None:
    async def work(pool: Pool) -> None:
        await use(pool, "a")
        with pytest.raises(MemoryShort, match=r"b needs about 0\.0 MB .* may have 0\.0 MB"):
            await use(pool, "b")
        assert names(pool) == ["a"]

    run(work, card("a", 5), card("b", 11), shelf=Shelf(10))


def test_one_that_is_used_stays_and_who_needs_its_room_waits() -> None:
    async def work(pool: Pool) -> None:
        async with pool.use("a"):
            waiting = asyncio.create_task(use(pool, "b"))
            await asyncio.sleep(0.05)
            assert names(pool) == ["a"]
        assert await waiting == "b"
        assert names(pool) == ["b"]

    run(work, card("a"), card("b"), shelf=Shelf(10))


def test_who_waits_too_long_is_told_who_holds_how_much() -> None:
    async def work(pool: Pool) -> None:
        async with pool.use("a"), pool.use("a"):
            with pytest.raises(EngineBusy) as caught:
                await use(pool, "b")
        assert caught.value.what == (
            "there is no room for b now: it needs about 0.70 GB of 1.00 GB, and a holds 0.50 GB and is used by 2"
        )
        assert await use(pool, "b") == "b"

    run(work, card("a", 5 * 10**8), card("b", 7 * 10**8), wait_s=0.05)


def test_nothing_is_put_away_where_that_is_not_enough() -> None:
    async def work(pool: Pool) -> None:
        await use(pool, "a")
        async with pool.use("b"):
            with pytest.raises(EngineBusy):
                await use(pool, "c")
            assert names(pool) == ["a", "b"]

    run(work, card("a"), card("b"), card("c", 20), shelf=Shelf(20), wait_s=0.05)


def test_room_is_not_waited_for_when_nobody_wants_the_model_any_more() -> None:
    async def work(pool: Pool) -> None:
        async with pool.use("a"):
            waiting = asyncio.create_task(use(pool, "b"))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await asyncio.sleep(0.05)
        assert names(pool) == ["a"]

    run(work, card("a"), card("b"), shelf=Shelf(10))


def test_a_budget_that_was_not_given_is_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    available = 800
    monkeypatch.setattr(machine, "memory_bytes", lambda _: (10**9, available))

    async def work(pool: Pool) -> None:
        nonlocal available
        with pytest.raises(MemoryShort):
            await use(pool, "large")
        # Other programs take memory: what is left holds only the small one.
        available = 400
        with pytest.raises(EngineBusy, match=r"other programs hold the rest"):
            await use(pool, "medium")
        assert await use(pool, "small") == "small"

    run(work, card("large", 701), card("medium", 700), card("small", 350), memory_bytes=None, wait_s=0.05)


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[str, int, int, float | None, bool]]:
    """By model: when it is asked for, for how long, what is to be done then, and whether who asks goes away."""
    one = st.tuples(
        st.sampled_from("abcd"),
        st.integers(0, 8),
        st.integers(0, 8),
        st.sampled_from([None, 0.0, 0.002, -1.0]),
        st.booleans(),
    )
    return draw(st.lists(one, min_size=1, max_size=24))


@examples(max_examples=60)
@given(requests(), st.tuples(*[st.integers(1, 10)] * 4), st.sets(st.sampled_from("abcd"), max_size=2))
def test_whoever_asks_whenever(
    asked: list[tuple[str, int, int, float | None, bool]], sizes: tuple[int, ...], failing: set[str]
) -> None:
    """Never more than the budget is open, nothing is closed while it is used, and everybody gets an answer."""
    shelf = Shelf(10)
    shelf.failing |= failing

    async def request(pool: Pool, name: str, start: int, hold: int, keep_s: float | None, goes: bool) -> None:
        await asyncio.sleep(start * 0.001)
        with suppress(EngineFailed):
            async with asyncio.timeout(0.002 if goes else None), pool.use(name, keep_alive_s=keep_s) as opened:
                shelf.used[name] = shelf.used.get(name, 0) + 1
                try:
                    assert name in shelf.open
                    assert opened.card.id == name
                    await asyncio.sleep(hold * 0.001)
                finally:
                    shelf.used[name] -= 1

    async def work(pool: Pool) -> None:
        ends = await asyncio.gather(*(request(pool, *one) for one in asked), return_exceptions=True)
        for (*_, goes), end in zip(asked, ends, strict=True):
            assert end is None or (goes and isinstance(end, TimeoutError))
        shelf.failing.clear()
        for name in failing:
            # Whoever asked for it may have gone before it failed, and then the next one shares that failure.
            with suppress(EngineFailed):
                await use(pool, name)
        for name in "abcd":
            assert await use(pool, name) == name

    run(work, *(card(name, size) for name, size in zip("abcd", sizes, strict=True)), shelf=shelf)


# --- time ------------------------------------------------------------------------------------------------------------


def test_one_that_nobody_used_for_a_while_is_closed() -> None:
    async def work(pool: Pool) -> None:
        async with pool.use("a"):
            assert pool.loaded()[0].expires_at is None
            await asyncio.sleep(0.05)
            assert names(pool) == ["a"]
        assert cast(float, pool.loaded()[0].expires_at) <= time.time() + 0.02
        await until(lambda: not pool.loaded())

    run(work, card("a"), idle_timeout_s=0.02)


def test_the_last_request_says_how_long_a_model_is_kept() -> None:
    async def work(pool: Pool) -> None:
        await use(pool, "a", keep_alive_s=-1)
        await use(pool, "b", keep_alive_s=1e300)
        await use(pool, "c", keep_alive_s=0)
        assert names(pool) == ["a", "b"]
        await asyncio.sleep(0.05)
        assert [each.expires_at for each in pool.loaded()] == [None, None]
        await use(pool, "a")
        await until(lambda: names(pool) == ["b"])

    run(work, *map(card, "abc"), idle_timeout_s=0.02)


def test_unloading_waits_for_those_who_use_it() -> None:
    shelf = Shelf()

    async def work(pool: Pool) -> None:
        await pool.unload("a")
        async with pool.use("a", keep_alive_s=-1):
            await pool.unload("a")
            assert names(pool) == ["a"]
        assert not pool.loaded()
        await use(pool, "a")
        await pool.unload("a")
        assert not shelf.open

    run(work, card("a"), shelf=shelf)


def test_one_that_nobody_waits_for_any_more_when_it_is_open_is_closed_in_time_too() -> None:
    shelf = Shelf()
    shelf.gate.clear()

    async def work(pool: Pool) -> None:
        waiting = asyncio.create_task(use(pool, "a"))
        await until(lambda: bool(shelf.opened))
        waiting.cancel()
        await asyncio.sleep(0)
        shelf.gate.set()
        await until(lambda: not shelf.open)

    run(work, card("a"), shelf=shelf, idle_timeout_s=0.01)


def test_the_time_of_one_that_was_closed_is_not_that_of_the_next() -> None:
    async def work(pool: Pool) -> None:
        await use(pool, "a", keep_alive_s=0.02)
        await pool.unload("a")
        await use(pool, "a")
        await asyncio.sleep(0.05)
        assert names(pool) == ["a"]

    run(work, card("a"))


# --- begin and end ---------------------------------------------------------------------------------------------------


def test_the_only_model_is_ready_before_anybody_asks() -> None:
    async def work(pool: Pool) -> None:
        await pool.warm()
        assert names(pool) == ["a"]

    run(work, card("a"))


def test_of_several_those_are_ready_that_were_named_and_fit() -> None:
    async def work(pool: Pool) -> None:
        await pool.warm()
        assert not pool.loaded()
        await pool.warm(["a", "b", "c"])
        assert names(pool) == ["a", "c"]
        with pytest.raises(MemoryShort):
            await pool.warm(["d"])

    run(work, card("a", 6), card("b", 6), card("c", 4), card("d", 11), shelf=Shelf(10), wait_s=10.0**6)


def test_closing_ends_every_wait() -> None:
    shelf = Shelf(10)

    async def work(pool: Pool) -> None:
        async with pool.use("a"):
            waiting = asyncio.create_task(use(pool, "b"))
            await asyncio.sleep(0.01)
            shelf.used.clear()
            await pool.close()
            for late in (waiting, use(pool, "a")):
                with pytest.raises(ServerEnding, match="being stopped"):
                    await late
        await pool.close()

    run(work, card("a"), card("b"), shelf=shelf)


def test_one_that_is_being_opened_is_closed_too() -> None:
    shelf = Shelf()
    shelf.gate.clear()

    async def work(pool: Pool) -> None:
        waiting = asyncio.create_task(use(pool, "a"))
        await until(lambda: bool(shelf.opened))
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0.01)
        shelf.gate.set()
        await closing
        assert not shelf.open
        await waiting

    run(work, card("a"), shelf=shelf)


# --- processes -------------------------------------------------------------------------------------------------------


def in_process(folder: Path) -> Callable[[ModelCard], Chat]:
    """Opens scripted engines in processes of their own."""

    def open_chat(card: ModelCard) -> Chat:
        place = folder / card.id
        place.mkdir(exist_ok=True)
        scripted.write_script(place, {"hello": f"I am {card.id}."}, delay_s=0.001)
        return IsolatedEngine(place, engine=scripted.ENGINE, limits=Limits(slots=4))

    return open_chat


@pytest.mark.slow
def test_a_killed_process_costs_its_own_answers(tmp_path: Path) -> None:
    async def work(pool: Pool) -> None:
        async with pool.use("a") as one, pool.use("b") as other:
            going = other.chat.converse(QUESTION, FOR_EVER)
            dying = one.chat.converse(QUESTION, FOR_EVER)
            await asyncio.to_thread(next, going)
            await asyncio.to_thread(next, dying)
            first = pool.loaded()[0]
            assert first.pid
            assert first.memory_bytes > 10**7
            psutil.Process(first.pid).kill()
            with pytest.raises(MemoryShort):
                await asyncio.to_thread(list, dying)
            await asyncio.to_thread(next, going)
        async with pool.use("a") as again:
            answer = await asyncio.to_thread(ask, again.chat, QUESTION, Sampling())
            assert answer.text == "I am a."
            await asyncio.to_thread(next, going)
        told = {each.card.id: each for each in pool.loaded()}
        assert (told["a"].restarts, told["b"].restarts) == (1, 0)
        assert told["a"].pid != first.pid
        going.close()

    run(work, card("a"), card("b"), open_chat=in_process(tmp_path))


@pytest.mark.slow
def test_what_a_process_really_holds_counts(tmp_path: Path) -> None:
    """Each is expected to hold 10 MB and holds more: there is room for one at a time."""

    async def work(pool: Pool) -> None:
        await use(pool, "a")
        assert pool.loaded()[0].memory_bytes > 20 * 10**6
        await use(pool, "b")
        assert names(pool) == ["b"]

    run(work, card("a", 10**7), card("b", 10**7), open_chat=in_process(tmp_path), memory_bytes=3 * 10**7)


@pytest.mark.slow
def test_two_packages_and_room_for_one(example: Path, settings: Settings) -> None:
    """Real ones, asked by turns and at the same time: each is opened when the other is not used any more."""
    for name in ("one", "two"):
        packages.install(example, settings.cache_dir, name=name)

    async def work(pool: Pool) -> None:
        async def answer(name: str) -> str:
            async with pool.use(name) as opened:
                assert isinstance(opened.chat, IsolatedEngine)
                assert names(pool) == [opened.card.id]
                return (await asyncio.to_thread(ask, opened.chat, QUESTION, Sampling(max_tokens=8))).text

        answers = [await answer(name) for name in ("one", "two:1")]
        answers += await asyncio.gather(*(answer(name) for name in ("one", "two") * 3))
        assert len(set(answers)) == 1
        [last] = pool.loaded()
        assert last.pid
        assert last.memory_bytes == pytest.approx(resident_bytes(last.pid), rel=0.1)
        # A slot is given back a moment after its last token is out.
        while (stats := await last.stats()) and stats.running:
            await asyncio.sleep(0.01)
        assert stats
        assert stats.slots == 2

    cards = Catalog([], settings).cards()
    limits = Limits(slots=2, context_tokens=256)
    children = set(psutil.Process().children())
    run(work, *cards, settings=settings, limits=limits, memory_bytes=400 * 10**6, open_chat=None)
    assert set(psutil.Process().children()) <= children


@pytest.mark.slow
def test_a_package_that_is_being_opened_is_given_up(example: Path, settings: Settings) -> None:
    packages.install(example, settings.cache_dir, name="one")

    async def work(pool: Pool) -> None:
        children = len(psutil.Process().children())
        waiting = asyncio.create_task(use(pool, "one"))
        await until(lambda: len(psutil.Process().children()) > children)
        await pool.close()
        with pytest.raises(ServerEnding):
            await waiting
        assert len(psutil.Process().children()) == children

    run(work, *Catalog([], settings).cards(), settings=settings, memory_bytes=None, open_chat=None)


def test_what_is_no_package_any_more_cannot_be_opened(settings: Settings, tmp_path: Path) -> None:
    packages.install(make_package(tmp_path / "x").folder, settings.cache_dir)
    cards = Catalog([], settings).cards()
    assert cards[0].folder
    shutil.rmtree(cards[0].folder)

    async def work(pool: Pool) -> None:
        for _ in range(2):
            with pytest.raises(EngineFailed, match=r"genai_config\.json"):
                await use(pool, "x")

    run(work, *cards, settings=settings, open_chat=None)
