"""Foundry Local as a chat: a package folder, run by Foundry Local in this process.

It renders conversations itself and tells texts, no token ids. What it cannot do, or would ignore without a word, is
refused. Its prompts are compared with the package's own template before they are sent.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from edgeship.engine.answer import StopFilter
from edgeship.engine.api import (
    DEFAULT_LIMITS,
    AnswerSteps,
    Conversation,
    FinishReason,
    Limits,
    Message,
    OnStep,
    Sampling,
    Stats,
    Token,
    Usage,
    check_line,
    check_sampling,
    check_tokens,
)
from edgeship.engine.grammar import Grammars
from edgeship.engine.sampling import defaults_of
from edgeship.engine.steps import LOOK_S, Cut, Owner, call_back
from edgeship.engine.text import TextCodec
from edgeship.errors import EdgeshipError, EngineFailed, PromptInvalid, TemplateMismatch
from edgeship.foundry import layout
from edgeship.foundry.request import INSTEAD, check_supported, guidance, plain_messages, search_options
from edgeship.foundry.sdk import LoadedModel, Local, Outcome
from edgeship.package import DAMAGED, genai_config, inference_model, tokenizer
from edgeship.package.fidelity import compose
from edgeship.package.genai_config import GenaiConfig
from edgeship.system import border
from edgeship.system.machine import cores_to_use
from edgeship.system.storage import TemporaryFolder

if TYPE_CHECKING:
    from edgeship.engine.api import Chat
    from edgeship.engine.opening import EngineOptions

_log = logging.getLogger("edgeship.foundry")


def open_foundry(options: EngineOptions) -> Chat:
    """The chat that engine.opening.ENGINES names "foundry"."""
    return FoundryEngine(options.config.folder, threads=options.threads, limits=options.limits)


class FoundryEngine:
    """See Chat. Answers are made one after another, or `limits.slots` at a time, which is hardly faster on a CPU.

    Reading a prompt cannot be stopped: an answer that is cancelled meanwhile ends at once, and its place is free when
    Foundry Local lets go of it.
    threads: by default those that the folder's genai_config.json names, else all that the machine grants.
    Raises EngineFailed, FoundryFailed, DependencyMissing, NameInvalid.
    """

    name = "foundry"

    def __init__(self, folder: Path, *, threads: int | None = None, limits: Limits = DEFAULT_LIMITS) -> None:
        config = genai_config.read(folder, DAMAGED)
        self.context_tokens = min(limits.context_tokens or config.context_tokens, config.context_tokens)
        self.codec = TextCodec(folder, self.context_tokens)
        self._grammars = Grammars(folder / tokenizer.FILE_NAME, config.vocab_size, config.end_ids)
        self.defaults = defaults_of(config.search)
        self._vocab_size = config.vocab_size
        self._slots = limits.slots or 1
        self._waiting = limits.waiting
        self._model, self.note = _shared.load(config, threads)
        _log.info("opened %s in Foundry Local: %d slots of %d tokens", folder, self._slots, self.context_tokens)
        self._line: queue.SimpleQueue[_Answer | None] = queue.SimpleQueue()
        self._lock, self._owner = threading.Lock(), Owner()
        # A prompt whose answer was cut may still be counted: the model stays until that is done.
        self._counting = threading.Lock()
        self._open: set[_Answer] = set()
        self._closed = False
        self._workers = [
            threading.Thread(target=self._work, name=f"foundry {slot}", daemon=True) for slot in range(self._slots)
        ]
        for worker in self._workers:
            worker.start()

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        """See Chat.converse; a callback has a thread of its own here. Raises NotSupported for what it would ignore."""
        self._owner.require()
        settings, cut = sampling.over(self.defaults), Cut(cancel, deadline_s)
        check_sampling(settings)
        check_supported(settings, self.defaults)
        try:
            answer = cut.within(lambda: self._prepare(conversation, settings))
        except border.TookTooLong:
            answer = _Answer((), {}, 0)  # its only step says why
        else:
            self._submit(answer)
        dropped = threading.Event()
        steps = _Steps(answer, settings.stop, dropped, cut)
        return call_back(steps, on_step, dropped.set) if on_step else steps

    def _prepare(self, conversation: Conversation, settings: Sampling) -> _Answer:
        messages, tokens = self._render(conversation)
        check_tokens(tokens, limit=self.context_tokens - 1, vocab_size=self._vocab_size)
        options = search_options(settings, self.context_tokens - len(tokens))
        if settings.constraint is not None:
            self._grammars.matcher(settings.constraint)  # raises for one that cannot be read
            options |= guidance(settings.constraint)
        return _Answer(messages, options, len(tokens))

    def _submit(self, answer: _Answer) -> None:
        with self._lock:
            self._check_open()
            check_line(self._line.qsize(), self._waiting)
            self._open.add(answer)
            self._line.put(answer)

    def check(self, conversation: Conversation) -> None:
        """Raises TemplateMismatch where Foundry Local makes another number of tokens of it than the package.

        Both take control tokens in its texts as such here.
        """
        self._render(conversation, trusting=True)

    def _render(
        self, conversation: Conversation, *, trusting: bool = False
    ) -> tuple[tuple[Message, ...], tuple[int, ...]]:
        """Messages of which Foundry Local makes as many tokens as the package's template, and those tokens."""
        conversation = replace(conversation, messages=self.codec.readable(conversation.messages))
        prompt = self.codec.render(conversation, trusting=trusting)
        if not trusting and self.codec.has_control_tokens(conversation):
            raise PromptInvalid("Foundry Local takes control tokens of the model in a text as such", hint=INSTEAD)
        messages = plain_messages(conversation)
        # Foundry Local does not trim texts where a template does, nor compose accents where the tokenizer does.
        for change in (str, str.strip, compose, lambda text: compose(text.strip())):
            changed = tuple({**message, "content": change(message["content"])} for message in messages)
            if all(message["content"] for message in changed):
                with self._counting:
                    self._check_open()
                    found = self._model.prompt_tokens(changed)
                if found == len(prompt.tokens):
                    return changed, prompt.tokens
        raise TemplateMismatch(
            f"Foundry Local makes {found} tokens of this conversation and the package's chat template "
            f"{len(prompt.tokens)}",
            where="chat template",
            hint="The model would read another prompt than in training. Run the package with Edgeship's own engine.",
        )

    def stats(self) -> Stats:
        """See Chat.stats."""
        with self._lock:
            waiting = self._line.qsize()
            return Stats(len(self._open) - waiting, waiting, self._slots)

    def close(self) -> None:
        """See Chat.close. Waits until Foundry Local lets go of what it reads."""
        if not self._owner.here:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for answer in self._open:
                answer.gone.set()
                answer.events.put(EngineFailed("the engine is closed"))
        for _ in self._workers:
            self._line.put(None)
        for worker in self._workers:
            worker.join()
        with self._counting:
            _shared.unload(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineFailed("the engine is closed")

    def _work(self) -> None:
        while (answer := self._line.get()) is not None:
            try:
                self._make(answer)
            finally:
                with self._lock:
                    self._open.discard(answer)

    def _make(self, answer: _Answer) -> None:
        def tell(text: str) -> bool:
            answer.events.put(_Said(text, time.perf_counter()))
            return not answer.gone.is_set()

        answer.queue_s = time.perf_counter() - answer.asked
        if answer.gone.is_set():
            return
        try:
            outcome = self._model.answer(answer.messages, answer.options, tell)
        except EdgeshipError as error:
            answer.events.put(error)
        else:
            if outcome is not None:
                answer.events.put(outcome)


class _Said(NamedTuple):
    """A piece of text, and when Foundry Local gave it: whoever waits for it may come later."""

    text: str
    time: float


@dataclass(eq=False)
class _Answer:
    """An answer in the making. events: what is said as it comes, then an outcome or an error."""

    messages: tuple[Message, ...]
    options: Mapping[str, str]
    prompt_tokens: int
    asked: float = field(default_factory=time.perf_counter)
    queue_s: float = 0.0
    gone: threading.Event = field(default_factory=threading.Event)
    events: queue.SimpleQueue[_Said | Outcome | EdgeshipError] = field(default_factory=queue.SimpleQueue)


class _Steps:
    """The steps of one answer. Whoever drops it has no use for the rest."""

    def __init__(self, answer: _Answer, stop: Sequence[str], dropped: threading.Event, cut: Cut) -> None:
        self._answer, self._stops, self._dropped, self._cut = answer, StopFilter(stop), dropped, cut
        self._pieces = 0
        self._first = self._last = 0.0
        self._done = False

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        while not self._done:
            why: FinishReason | None = "cancelled" if self._dropped.is_set() else self._cut.due()
            if why:
                return self._end("", why)
            try:
                event = self._answer.events.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if isinstance(event, EdgeshipError):
                self._done = True
                raise event
            if isinstance(event, Outcome):
                return self._end(self._stops.flush(), "length" if event.cut else "stop", event)
            shown = self._take(event)
            if self._stops.found is not None:
                return self._end(shown, "stop")
            if shown:
                return Token(None, shown)
        raise StopIteration

    def close(self) -> None:
        """Lets go of the answer."""
        self._done = True
        self._answer.gone.set()

    __del__ = close

    def _take(self, said: _Said) -> str:
        self._pieces += 1
        self._last = said.time
        self._first = self._first or said.time
        return self._stops.push(said.text)

    def _end(self, text: str, finish: FinishReason, outcome: Outcome | None = None) -> Token:
        self.close()
        asked, last = self._answer.asked, self._last or time.perf_counter()
        # Of an answer that was cut, Foundry Local tells no usage: the pieces of text stand for its tokens.
        usage = Usage(
            prompt_tokens=outcome.prompt_tokens if outcome else self._answer.prompt_tokens,
            completion_tokens=outcome.completion_tokens if outcome else self._pieces,
            ttft_s=(self._first or last) - asked,
            e2e_s=last - asked,
            queue_s=self._answer.queue_s,
        )
        return Token(None, text, finish, usage=usage, stopped_by=self._stops.found)


class _Shared:
    """One catalog of its own for all engines of this process: the library allows no second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions = itertools.count(1)
        self._local: Local | None = None
        self._folder: TemporaryFolder | None = None
        self._users = 0

    def load(self, config: GenaiConfig, threads: int | None) -> tuple[LoadedModel, str | None]:
        """The folder's model, loaded, and what is to be said of it. Raises as Local does."""
        with self._lock:
            if self._local is None or self._folder is None:
                self._folder = TemporaryFolder("edgeship-foundry")
                self._local = Local(Path(self._folder.name) / "catalog")
            self._users += 1
            version = next(self._versions)
            try:
                folder, note = _with_threads(config, threads, Path(self._folder.name) / str(version))
                # Under its own name, since words in a name can demand an execution provider.
                model_id = f"{inference_model.read_name(config.folder) or 'model'}:{version}"
                self._local.register(folder.absolute(), model_id, {}, {})
                return self._local.load(model_id), note
            except BaseException:
                self._release()
                raise

    def unload(self, model: LoadedModel) -> None:
        """Frees a model, and with the last one the library."""
        with self._lock:
            try:
                model.unload()
            finally:
                self._release()

    def _release(self) -> None:
        self._users -= 1
        if self._users == 0 and self._local is not None and self._folder is not None:
            self._local.close()
            self._folder.cleanup()
            self._local = self._folder = None


_shared = _Shared()


def _with_threads(config: GenaiConfig, threads: int | None, scratch: Path) -> tuple[Path, str | None]:
    """The folder, or links to it beside a genai_config.json that names the threads, and what is to be said of that.

    Foundry Local takes threads from nowhere else, and a package names none.
    """
    wanted = threads or config.threads or cores_to_use(None)
    if wanted == config.threads:
        return config.folder, None
    try:
        layout.link_with_threads(config, scratch, wanted)
    except OSError:  # Windows lets few users make links
        found = config.threads or "none, so its own choice"
        return config.folder, f"Foundry Local uses the threads that {genai_config.FILE_NAME} names ({found})"
    return scratch, None
