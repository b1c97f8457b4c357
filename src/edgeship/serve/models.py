"""The models of a server: opened when they are asked for, within a budget of bytes, and closed when others need it.

Everything here is done by the event loop, so nothing is locked; what takes its time is done by threads of our own.
A model that is about to be opened counts with what it will hold at most, and so does one that is open, unless its
process holds more already.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from edgeship.engine.api import DEFAULT_LIMITS, Chat, Limits, Stats, check_settings
from edgeship.engine.isolated import IsolatedEngine
from edgeship.errors import EdgeshipError, EngineBusy, ModelUnknown, ServerEnding
from edgeship.package import DAMAGED, genai_config
from edgeship.serve.budget import Budget, Need, in_units
from edgeship.serve.catalog import ModelCard as ModelCard
from edgeship.settings import Settings
from edgeship.system import memory
from edgeship.system.text import alike

WAIT_S = 30.0
"""A model that there is no room for waits so long for others to become idle."""
_LOADS_AT_ONCE = 2
_THREADS = 8
# What only the machine tells, such as memory that others let go of, is looked at so often by whoever waits for it.
_LOOK_S = 0.5
_STATS_S = 1.0
_LONGEST_S = 10.0**8
"""Who asks for a model to be kept longer than three years means for ever."""
_NAMES_LISTED = 20
_log = logging.getLogger("edgeship.serve")
_Some = TypeVar("_Some")


@dataclass
class Opened:
    """A model that is ready."""

    card: ModelCard
    chat: Chat


@dataclass(frozen=True)
class Loaded:
    """A model that is open at this moment.

    memory_bytes: what its process holds; of a chat in this process, what it was expected to hold.
    users: those who use it now. since, expires_at: unix seconds; None where it stays until others need its room, and
    while it is used. pid: None where it has no process of its own. restarts: how often that process died.
    """

    card: ModelCard
    chat: Chat
    memory_bytes: int
    users: int
    since: float
    expires_at: float | None
    pid: int | None
    restarts: int

    async def stats(self) -> Stats | None:
        """What goes on in it; None where it does not tell within a second, as while its process starts again."""
        try:
            async with asyncio.timeout(_STATS_S):
                return await asyncio.to_thread(self.chat.stats)
        except (TimeoutError, EdgeshipError):
            return None


@dataclass(eq=False)
class _Model:
    """One that is open, or on its way.

    promised_bytes: what it may come to hold, 0 before there is room for it. limits: of its engine.
    wait_s: how long it may wait for room.
    """

    card: ModelCard
    wait_s: float
    keep_alive_s: float | None = None
    limits: Limits = DEFAULT_LIMITS
    promised_bytes: int = 0
    opened: Opened | None = None
    loading: asyncio.Task[None] = field(init=False)
    users: int = 0
    used_at: float = 0.0
    since: float = 0.0
    expires_at: float | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        return self.opened is not None and not self.users

    @property
    def process(self) -> IsolatedEngine | None:
        """What runs it in a process of its own, where something does."""
        chat = self.opened.chat if self.opened else None
        return chat if isinstance(chat, IsolatedEngine) else None

    @property
    def resident_bytes(self) -> int:
        return memory.resident_bytes(self.process.pid) if self.process else 0

    @property
    def held_bytes(self) -> int:
        return max(self.promised_bytes, self.resident_bytes)


class Pool:
    """Models by name, each opened once for all who ask for it; to be used by one event loop.

    cards: the models, or what gives them at any moment, such as `Catalog.cards`.
    limits: of each model's engine; what they leave to the machine is dealt out from the budget.
    memory_bytes: what all models together may hold; by default what the machine has available, but for a reserve.
    idle_timeout_s: a model that nobody used for so long is closed; None keeps it until others need its room.
    wait_s: how long a model may wait for room.
    open_chat: opens a model, in a thread; by default packages get a process of their own.
    loads, evictions: models that were opened so far, and those that made room for others.

    Raises UsageError for settings that cannot be.
    """

    def __init__(
        self,
        cards: Sequence[ModelCard] | Callable[[], Sequence[ModelCard]],
        *,
        settings: Settings,
        limits: Limits = DEFAULT_LIMITS,
        memory_bytes: int | None = None,
        idle_timeout_s: float | None = None,
        wait_s: float = WAIT_S,
        open_chat: Callable[[ModelCard], Chat] | None = None,
    ) -> None:
        check_settings(limits=limits, memory_bytes=memory_bytes)
        self._read_cards = cards if callable(cards) else lambda: cards
        self._known: Sequence[ModelCard] = ()
        self._settings, self._budget = settings, Budget(settings, limits, memory_bytes)
        self._limits = limits
        self._idle_timeout_s, self._wait_s = idle_timeout_s, wait_s
        self._open_chat = open_chat
        self._models: dict[object, _Model] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="edgeship models")
        self._turns = asyncio.Semaphore(_LOADS_AT_ONCE)
        self._over = threading.Event()
        self.loads = self.evictions = 0

    # --- names -------------------------------------------------------------------------------------------------------

    def cards(self) -> tuple[ModelCard, ...]:
        """Every model that is served. What is open and no longer served is closed."""
        cards = self._read_cards()
        if cards is not self._known:
            self._known = cards
            self._drop_all_but({_key(card) for card in cards})
        return tuple(cards)

    def find(self, name: str | None) -> ModelCard:
        """The model of that name or alias; the first of all where none is named. Raises ModelUnknown.

        An empty text is a name, and no model has it.
        """
        cards = self.cards()
        found = next((card for card in cards if name is None or name in card.names), None)
        if found is None:
            raise _unknown(name, cards)
        return found

    def context_tokens(self, card: ModelCard) -> int | None:
        """Prompt and answer of a model together: what it has where it is open, else what its files and limits allow.

        None where only opening it tells. Files are read.
        """
        model = self._models.get(_key(card))
        if model and model.opened:
            return model.opened.chat.context_tokens
        if card.folder is None:
            return None
        try:
            of_model = genai_config.read(card.folder, DAMAGED).context_tokens
        except EdgeshipError:
            return None
        return min(of_model, self._limits.context_tokens or of_model)

    # --- use ---------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def use(self, name: str | None, *, keep_alive_s: float | None = None) -> AsyncIterator[Opened]:
        """The model, opened where it is not open yet; it stays open as long as it is used.

        keep_alive_s: how long it is kept after that, 0 for not at all, negative for ever; by default the pool's.
        Raises ModelUnknown, MemoryShort where it is larger than the budget, EngineBusy where others that are used leave
        no room, and what opening it raises.
        """
        async with self._use(name, keep_alive_s, self._wait_s) as opened:
            yield opened

    async def warm(self, wanted: Sequence[str] | None = None) -> None:
        """Opens the models of these names, as many as there is room for; by default the only one that is served.

        Raises what opening one raises, and MemoryShort for one that there could never be room for.
        """
        if wanted is None:
            wanted = [card.id for card in self.cards()] if len(self.cards()) == 1 else []
        async with AsyncExitStack() as used:
            for name in wanted:
                try:
                    await used.enter_async_context(self._use(name, None, 0.0))
                except EngineBusy as error:
                    _log.info("%s is opened once it is asked for: %s", name, error.what)

    async def unload(self, name: str) -> None:
        """Closes the model, once nobody uses it any more; it is closed on return where nobody did.

        Raises ModelUnknown.
        """
        model = self._models.get(_key(self.find(name)))
        if model is None:
            return
        model.keep_alive_s = 0.0
        if model.idle:
            await asyncio.shield(self._put_away(model))

    async def close(self) -> None:
        """Closes every model; whoever uses one, or waits for one, gets an error."""
        self._over.set()
        self._notify()
        await asyncio.gather(*(model.loading for model in self._models.values()), return_exceptions=True)
        for model in list(self._models.values()):
            self._put_away(model)
        await asyncio.gather(*self._closing)
        self._threads.shutdown(wait=False)

    def loaded(self) -> tuple[Loaded, ...]:
        """The models that are open, the one that was opened first before the others."""
        return tuple(_told(model) for model in self._models.values() if model.opened)

    @asynccontextmanager
    async def _use(self, name: str | None, keep_alive_s: float | None, wait_s: float) -> AsyncIterator[Opened]:
        card = self.find(name)
        model = self._models.get(_key(card)) or self._begin(card, wait_s)
        model.keep_alive_s = self._idle_timeout_s if keep_alive_s is None else keep_alive_s
        self._pin(model)
        try:
            # Whoever waits no more leaves the loading to the others.
            await asyncio.shield(model.loading)
            assert model.opened
            yield replace(model.opened, card=card)
        finally:
            self._unpin(model)

    def _pin(self, model: _Model) -> None:
        model.users += 1
        if model.timer:
            model.timer.cancel()
        model.timer = model.expires_at = None

    def _unpin(self, model: _Model) -> None:
        model.users -= 1
        if model.idle and self._models.get(_key(model.card)) is model:
            self._rest(model)
        self._notify()

    def _rest(self, model: _Model) -> None:
        """From now on nobody uses it."""
        keep_s = model.keep_alive_s
        model.used_at = time.perf_counter()
        if keep_s == 0:
            self._put_away(model)
        elif keep_s is not None and 0 < keep_s <= _LONGEST_S:
            model.expires_at = time.time() + keep_s
            model.timer = asyncio.get_running_loop().call_later(keep_s, self._put_away, model)

    def _drop_all_but(self, served: Container[object]) -> None:
        for key, model in list(self._models.items()):
            if key not in served:
                model.keep_alive_s = 0.0
                if model.idle:
                    self._put_away(model)

    # --- loading -----------------------------------------------------------------------------------------------------

    def _begin(self, card: ModelCard, wait_s: float) -> _Model:
        if self._over.is_set():
            raise _ending()
        model = self._models[_key(card)] = _Model(card, wait_s)
        model.loading = asyncio.create_task(self._load(model))
        # It may fail when nobody waits for it any more.
        model.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        return model

    async def _load(self, model: _Model) -> None:
        try:
            await self._admit(model)
            async with self._turns:
                model.opened = await self._in_thread(self._open, model)
        except BaseException as error:
            del self._models[_key(model.card)]  # the next one who asks tries again
            if self._over.is_set() and isinstance(error, EdgeshipError):
                raise _ending() from error
            _log.warning("%s could not be opened: %s", model.card.id, error)
            raise
        finally:
            self._notify()
        self.loads += 1
        model.since = time.time()
        _log.info("%s is open, and may hold %s", model.card.id, in_units(model.promised_bytes))
        if model.idle:
            self._rest(model)

    def _open(self, model: _Model) -> Opened:
        card = model.card
        return Opened(card, self._open_chat(card) if self._open_chat else self._open_card(card, model.limits))

    def _open_card(self, card: ModelCard, limits: Limits) -> Chat:
        here = self._settings
        if card.folder is None:
            return card.target.open(limits=limits, model=card.id)
        if card.target.kind == "foundry":
            return card.target.open(limits=limits)
        return IsolatedEngine(card.folder, threads=here.threads, limits=limits, home=here.home, unwanted=self._over)

    def _put_away(self, model: _Model) -> asyncio.Task[None]:
        """Closes a model that nobody uses, or whatever happens to its users; its room is free when that is done."""
        del self._models[_key(model.card)]
        if model.timer:
            model.timer.cancel()
        task = asyncio.create_task(self._close(model))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _close(self, model: _Model) -> None:
        assert model.opened
        try:
            await self._in_thread(model.opened.chat.close)
            _log.info("%s is closed", model.card.id)
        except Exception:
            _log.exception("%s could not be closed", model.card.id)
        finally:
            self._notify()

    async def _in_thread(self, work: Callable[..., _Some], *arguments: object) -> _Some:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    # --- room --------------------------------------------------------------------------------------------------------

    async def _admit(self, model: _Model) -> None:
        """Waits until there is room for a model, and makes it. Raises MemoryShort, EngineBusy."""
        footprint = await self._in_thread(self._budget.footprint, model.card)
        need = self._budget.need(model.card, footprint, self.cards())
        try:
            async with asyncio.timeout(model.wait_s):
                while not self._make_room(model, need):
                    await self._change(model)
        except TimeoutError as error:
            raise self._no_room(model, need) from error
        # What was put away before this had room may still be there; what is put away later, others wait for.
        await asyncio.gather(*self._closing)

    def _make_room(self, model: _Model, need: Need) -> bool:
        """Whether a model has room from now on; idle ones go for it, those first that were not used for longest."""
        held = {each: each.held_bytes for each in self._models.values()}
        free_bytes = self._usable_bytes() - sum(held.values())
        going: list[_Model] = []
        for idle in sorted((each for each in held if each.idle and held[each]), key=lambda each: each.used_at):
            if free_bytes >= need.size_bytes:
                break
            going.append(idle)
            free_bytes += held[idle]
        if free_bytes < need.size_bytes:
            return False
        for each in going:
            _log.info("%s makes room for %s", each.card.id, model.card.id)
            self.evictions += 1
            self._put_away(each)
        model.promised_bytes, model.limits = need.size_bytes, need.limits
        return True

    async def _change(self, model: _Model) -> None:
        """Waits until something may have changed for a model that waits for room."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await self._changed.wait()
        if self._over.is_set():
            raise _ending()
        if not model.users:
            raise EngineBusy("nobody waits for the model any more")

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _usable_bytes(self) -> int:
        return self._budget.usable_bytes(sum(model.resident_bytes for model in self._models.values()))

    def _no_room(self, model: _Model, need: Need) -> EngineBusy:
        others = ", ".join(self._told_by_others(model)) or "other programs hold the rest"
        return EngineBusy(
            f"there is no room for {model.card.id} now: it needs about {in_units(need.size_bytes)} of "
            f"{in_units(self._usable_bytes())}, and {others}",
            hint="Try again later, or give the models more memory.",
        )

    def _told_by_others(self, model: _Model) -> Iterator[str]:
        for other in self._models.values():
            if other is not model and other.promised_bytes:
                doing = f"is used by {other.users}" if other.opened else "is being opened"
                yield f"{other.card.id} holds {in_units(other.held_bytes)} and {doing}"


def _key(card: ModelCard) -> object:
    """What stands for the model itself, whatever it is called: names go over to later versions, and files change."""
    return card.target, card.created, card.id if card.folder is None else None


def _told(model: _Model) -> Loaded:
    assert model.opened
    process = model.process
    return Loaded(
        model.card,
        model.opened.chat,
        model.resident_bytes if process else model.promised_bytes,
        model.users,
        model.since,
        model.expires_at,
        process.pid if process else None,
        process.restarts if process else 0,
    )


def _unknown(name: str | None, cards: Sequence[ModelCard]) -> ModelUnknown:
    if not cards:
        return ModelUnknown("no model is served", hint="Install a package, or name one when the server is started.")
    known = [name for card in cards for name in card.names]
    close = alike(name or "", known)
    names = [name for card in cards for name in card.listed_names]
    listed = ", ".join(names[:_NAMES_LISTED]) + (", ..." if len(names) > _NAMES_LISTED else "")
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    return ModelUnknown(f"no model is called {name!r}", hint=f"{meant}Models: {listed}.")


def _ending() -> ServerEnding:
    return ServerEnding("the server is being stopped", hint="Ask another one, or ask again once it is up.")
