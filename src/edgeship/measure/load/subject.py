"""A target that was opened to be measured: what is asked of it, how it was loaded, and its levels one by one."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from edgeship.engine.api import Chat, Conversation, Engine, Limits
from edgeship.engine.remote import RemoteChat
from edgeship.errors import PromptsInvalid, UsageError
from edgeship.measure.load import workload
from edgeship.measure.load.chats import ChatAsker
from edgeship.measure.load.doubts import Expected
from edgeship.measure.load.driver import Bounds, Driven, Interrupted, Load, drive
from edgeship.measure.load.figures import e2e_s, ttft_s
from edgeship.measure.load.records import Record
from edgeship.measure.load.servers import ServerAsker
from edgeship.measure.load.texts import learn, text_prompts
from edgeship.measure.load.watch import Watch, place_of
from edgeship.measure.load.workload import Script
from edgeship.progress import Progress, silent
from edgeship.system.processes import Family
from edgeship.targets import Target

WARM_UP_TOKENS = 8
_PREPARED, _PREPARED_TOKENS = 256, 2_000_000
"""So many questions are made before a level whose time is limited, and not its requests."""
_RECOUNTED = 16
"""So many answers of a level are counted again by the server's tokenizer."""
_LISTED_FAULTS = 5


@dataclass(frozen=True)
class Asked:
    """What is asked. prompts: a file of questions, instead of made-up ones of prompt_tokens each.

    new_tokens: of an answer at most; of one to a made-up prompt also at least, where the target can be asked for that.
    replay: conversations of the file are asked turn by turn. seed: the same one asks the same; None takes 0, and
    another one each time for a server, which may remember the prompts of the last time.
    """

    prompt_tokens: int = 128
    new_tokens: int = 64
    prompts: Path | None = None
    replay: bool = False
    seed: int | None = None


class Subject:
    """See `opened`. name: as the target was named. load_s: None for what was there before."""

    def __init__(self, target: Target, chat: Chat, asked: Asked, timeout_s: float, load_s: float | None) -> None:
        self.name, self.kind, self.chat = target.name, target.kind, chat
        self._target = target
        # It is looked for once; an engine's process may be another one by the next level.
        self._server = place_of(target, chat) if target.kind == "url" else None
        self._asked, self._timeout_s, self._load_s = asked, timeout_s, load_s
        self._asker = ServerAsker(chat, timeout_s) if isinstance(chat, RemoteChat) else ChatAsker(chat)
        self._overhead, self._exact = 0, True
        self.seed = _seed(target) if asked.seed is None else asked.seed
        self._supply = self._made_up() if asked.prompts is None else self._of_file(asked.prompts)
        self._loaded_bytes = None if load_s is None else Family(place_of(target, chat).pids).look()
        self._first: list[Record] = []
        self._drives = 0

    # --- what is asked -----------------------------------------------------------------------------------------------

    def _made_up(self) -> Callable[[], Iterator[Script]]:
        """Prompts that go on with each level: none is asked twice."""
        asked, context = self._asked, self.chat.context_tokens
        if context is not None and asked.prompt_tokens + asked.new_tokens > context:
            raise UsageError(
                f"--prompt-tokens {asked.prompt_tokens} and --new-tokens {asked.new_tokens} are more than the context "
                f"of {context} tokens",
                hint="Ask for less.",
            )
        if isinstance(self.chat, Engine):
            make = workload.token_prompts(self.chat.vocab_size, asked.prompt_tokens, asked.new_tokens, self.seed)
        else:
            count, cheap = self._asker.counter() if isinstance(self._asker, ServerAsker) else (self._asker.count, True)
            vocabulary = learn(count, cheap=cheap)
            self._overhead, self._exact = vocabulary.overhead, vocabulary.exact
            make = text_prompts(vocabulary, asked.prompt_tokens, asked.new_tokens)
        scripts = workload.synthetic(make, self.seed)
        return lambda: scripts

    def _of_file(self, path: Path) -> Callable[[], Iterator[Script]]:
        """The file's questions, from the first one for each level."""
        scripts = workload.read_prompts(path, self._asked.new_tokens, replay=self._asked.replay)
        self._require_short(path, scripts)
        return lambda: itertools.cycle(scripts)

    def _prepared(self, count: int) -> Iterator[Script]:
        """Questions of which the first ones are made now: later it would take time between requests."""
        supply = self._supply()
        return itertools.chain(list(islice(supply, count)), supply)

    def _require_short(self, path: Path, scripts: tuple[Script, ...]) -> None:
        codec, context = self.chat.codec, self.chat.context_tokens
        if codec is None or context is None:
            return
        lengths = [len(codec.render(Conversation(script.first.messages)).tokens) for script in scripts]
        long = [f"prompt {number} has {length:,}" for number, length in enumerate(lengths, 1) if length >= context]
        if long:
            more = f"; and {len(long) - _LISTED_FAULTS} more" if len(long) > _LISTED_FAULTS else ""
            raise PromptsInvalid(
                f"{len(long)} of {len(scripts)} prompts are longer than the context of {context:,} tokens: "
                f"{', '.join(long[:_LISTED_FAULTS])}{more}",
                where=str(path),
                hint="Shorten them, or leave them out.",
            )

    # --- measuring ---------------------------------------------------------------------------------------------------

    @property
    def expected(self) -> Expected:
        """What its answers are held against."""
        told = None if self._asker.takes_ignore_eos else "the target cannot be asked for answers that do not end early"
        return Expected(
            synthetic=self._asked.prompts is None,
            exact=self._exact,
            overhead_tokens=self._overhead,
            ends_early=told,
        )

    def ask_first(self) -> None:
        """The first request after loading, cold, and one more like it."""
        bounds = Bounds(1, None, self._timeout_s)
        scripts = self._prepared(2)
        for _ in range(2):
            self._first += drive(self._asker, scripts, Load(1), bounds).records

    def drive(self, load: Load, bounds: Bounds, *, warm_up: int | None = None, progress: Progress = silent) -> Driven:
        """One level, after requests with short answers that warm it up: by default as many as run at the same time.

        Raises Interrupted with what came of the level, and a plain KeyboardInterrupt before it.
        """
        count = (load.concurrency or 1) if warm_up is None else warm_up
        if count and self._asker.answers:
            progress(f"{load.name}: warming up", None)
            self._warm_up(load, count, bounds.timeout_s)
        self._drives += 1
        # As many as there are requests; not more than there is memory for.
        most = max(_PREPARED, _PREPARED_TOKENS // self._asked.prompt_tokens)
        scripts, seed = self._prepared(min(bounds.requests or _PREPARED, most)), self.seed + self._drives
        with Watch(self._server or place_of(self._target, self.chat)) as watching:
            try:
                driven = drive(self._asker, scripts, load, bounds, seed=seed, progress=progress)
            except Interrupted as interrupt:
                driven = interrupt.driven
        driven = replace(driven, records=tuple(self._recounted(driven)), cost=watching.cost)
        if driven.stopped == "interrupted":
            raise Interrupted(load, driven)
        return driven

    def _warm_up(self, load: Load, count: int, timeout_s: float) -> None:
        short = iter([_shortened(script) for script in islice(self._supply(), count)])
        try:
            drive(self._asker, short, Load(load.concurrency or 1), Bounds(None, None, timeout_s))
        except Interrupted as interrupt:
            raise KeyboardInterrupt from interrupt  # what came of it is no level's

    def _recounted(self, driven: Driven) -> Iterator[Record]:
        """The records without the texts of answers, of which some were counted by the server's tokenizer."""
        left = 0 if driven.stopped in ("silent", "interrupted") else _RECOUNTED
        for record in driven.records:
            reply, counted = record.reply, record.reply.counted_output_tokens
            usable = record.is_complete and reply.text and all(set(one.kinds) <= {"text"} for one in reply.arrivals)
            if usable and left and isinstance(self._asker, ServerAsker):
                counted, left = self._asker.count(reply.text), left - 1
                left = left if counted is not None else 0
            yield replace(record, reply=replace(reply, text="", counted_output_tokens=counted))

    # --- telling -----------------------------------------------------------------------------------------------------

    @property
    def first_records(self) -> tuple[Record, ...]:
        """The first requests after loading."""
        return tuple(replace(record, reply=replace(record.reply, text="")) for record in self._first)

    def to_dict(self) -> dict[str, Any]:
        """What it is, and how it was loaded."""
        chat = self.chat
        return {
            "name": self.name,
            "kind": self.kind,
            "model": chat.model if isinstance(chat, RemoteChat) else None,
            "engine": chat.name,
            "slots": getattr(chat, "slots", None),
            "context_tokens": chat.context_tokens,
            "note": chat.note,
            "load_s": self._load_s,
            "rss_after_load_bytes": self._loaded_bytes,
            "first_request": {name: _first(record) for name, record in zip(("cold", "warm"), self._first, strict=False)}
            or None,
        }


def _seed(target: Target) -> int:
    return secrets.randbelow(2**31) if target.kind == "url" else 0


def _shortened(script: Script) -> Script:
    """Its first question alone, for a short answer."""
    new_tokens = min(script.first.new_tokens or WARM_UP_TOKENS, WARM_UP_TOKENS)
    return Script(replace(script.first, new_tokens=new_tokens))


def _first(record: Record) -> dict[str, Any]:
    failure = record.reply.failure
    return {
        "ttft_s": ttft_s(record) if record.is_complete else None,
        "e2e_s": e2e_s(record) if record.is_complete else None,
        "error": failure and failure.what,
    }


@dataclass(frozen=True)
class Access:
    """How a target is opened. model, api_key: for a URL."""

    limits: Limits = field(default_factory=Limits)
    model: str | None = None
    api_key: str | None = None


@contextmanager
def opened(
    target: Target, asked: Asked, access: Access, *, timeout_s: float, progress: Progress = silent
) -> Iterator[Subject]:
    """The target, opened, and asked its first requests where it was loaded for that.

    What is no server runs in a process of its own: what is counted of that is the model's alone.
    Raises what `Target.open` raises, PromptsInvalid and UsageError for prompts that do not fit.
    """
    progress(f"opening {target.name}", None)
    begun = time.perf_counter()
    chat = _open(target, access)
    load_s = None if target.kind == "url" else time.perf_counter() - begun
    with chat:
        progress("preparing prompts", None)
        subject = Subject(target, chat, asked, timeout_s, load_s)
        if load_s is not None:
            progress("the first requests, cold and warm", None)
            subject.ask_first()
        yield subject


def _open(target: Target, access: Access) -> Chat:
    if target.kind != "url" and access.model is None and access.api_key is None:
        return target.open_apart(access.limits)
    if target.kind == "url" and access.limits != Limits():
        raise UsageError("a server decides on its slots and context", hint="Leave --slots and --context out.")
    return target.open(limits=access.limits, model=access.model, api_key=access.api_key)
