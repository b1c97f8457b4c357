"""What all requests share: the models, the line in front of them, and the threads in which answers are begun."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from edgeship.engine.api import Chat, Conversation, Engine, Prompt, Sampling, Token
from edgeship.errors import DeadlinePassed, NotSupported, RequestInvalid
from edgeship.serve import exchange as exchanges
from edgeship.serve.answering import Answers, Ask
from edgeship.serve.bodies import HELD
from edgeship.serve.documents import Document
from edgeship.serve.line import Line, ticket_of
from edgeship.serve.metrics import Metrics
from edgeship.serve.models import Opened, Pool
from edgeship.serve.openai.stored import StoredResponses
from edgeship.serve.options import ServeOptions

Some = TypeVar("Some")
log = logging.getLogger("edgeship.serve")
# Beginning an answer takes a moment, or as long as a model that died takes to come back. No thread waits after that.
_THREADS = 256
# Clients are given so long to hear that the server ends.
_LAST_WORDS_S = 3.0


class Server:
    """The state of one application: ready once it has started, closed when it ends."""

    def __init__(self, pool: Pool, options: ServeOptions) -> None:
        self.pool, self.options = pool, options
        self.stored = StoredResponses(
            most=options.stored_responses, most_bytes=options.stored_bytes, most_age_s=options.stored_s
        )
        self.line = Line(options.most_waiting)
        self.metrics = Metrics(options.metrics_names, pool, self.line)
        self.executor = ThreadPoolExecutor(_THREADS, "edgeship serve")
        self.loading: asyncio.Task[None] | None = None
        self._answers: set[Answers] = set()

    @property
    def ready(self) -> bool:
        """Whether requests are wanted: the models that are to be loaded are, and the server is not about to end."""
        loading = self.loading
        if loading is None or not loading.done() or loading.cancelled() or loading.exception():
            return False
        return not self.line.ending

    def load(self, ready: Sequence[str] | None = None) -> asyncio.Task[None]:
        """Begins to load the models that are to be ready, see Pool.warm, while the server answers already.

        The task raises what loading one raises.
        """
        self.loading = asyncio.create_task(self._warm(ready))
        self.loading.add_done_callback(_log_failure)
        return self.loading

    async def _warm(self, ready: Sequence[str] | None) -> None:
        await self.pool.warm(ready)
        for model in self.pool.loaded():
            self.line.know(model.card.id, _slots(model.chat))

    async def open(self, request: Request, name: str | None, *, keep_alive_s: float | None = None) -> Opened:
        """The model called `name`, which stays loaded until the request is over.

        Raises ModelUnknown, MemoryShort, EngineBusy where there is no room for it, ServerEnding.
        """
        exchange, held = exchanges.of(request.scope), request.scope[HELD]
        exchange.model = self.pool.find(name).id
        self.line.join(ticket_of(request.scope), exchange.model)
        opened: Opened = await held.enter_async_context(self.pool.use(name, keep_alive_s=keep_alive_s))
        self.line.know(exchange.model, _slots(opened.chat))
        return opened

    async def answer(self, request: Request, asks: Sequence[Ask]) -> Answers:
        """The answers that these begin, each when its turn has come; they end with the request.

        Raises what an engine refuses the first one with, ServerEnding, and DeadlinePassed where it waits for too long.
        """
        held = request.scope[HELD]
        answers = Answers(self.executor, _Places(self, request))
        self._answers.add(answers)
        held.callback(self._answers.discard, answers)
        held.callback(answers.close)
        await answers.begin(asks)
        return answers

    async def in_thread(self, work: Callable[[], Some]) -> Some:
        """What `work` gives or raises, while other requests go on."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, work)

    async def tell(self, make: Callable[[], Mapping[str, Any]]) -> Response:
        """The response of the document that `make` gives, while other requests go on."""
        return await self.in_thread(lambda: Document(make()))

    async def converse(
        self, request: Request, opened: Opened, conversation: Conversation, samplings: Sequence[Sampling]
    ) -> Answers:
        """One answer to a conversation for each of these settings.

        Raises as `answer` does, and RequestInvalid for one that was begun and is to be held to something: what is there
        already was not.
        """
        if conversation.continues and any(sampling.constraint for sampling in samplings):
            raise RequestInvalid(
                "an answer that goes on with the last message cannot be held to a schema, an expression, a choice or a "
                "grammar",
                param="messages",
                hint="Leave that out, or let the last message be the user's.",
            )

        def ask(sampling: Sampling) -> Ask:
            return lambda cancel, deadline_s, on_step: opened.chat.converse(
                conversation, sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step
            )

        return await self.answer(request, [ask(sampling) for sampling in samplings])

    async def render(self, opened: Opened, conversation: Conversation) -> Prompt:
        """The prompt of a conversation. Raises what Codec.render does, and NotSupported where tokens are not known."""
        if not isinstance(opened.chat, Engine):
            raise NotSupported(f"the tokens of {opened.card.id} are not known here", hint="Ask the server that has it.")
        return await self.in_thread(functools.partial(opened.chat.render, conversation))

    async def drain(self) -> None:
        """Takes no more requests, and returns once those that run are over: by themselves, or cut in the end."""
        log.info("the server ends once its answers are complete, in %g s at most", self.options.drain_s)
        if await self.line.drain(self.options.drain_s):
            return
        self.line.end_waiting()
        for answers in tuple(self._answers):
            answers.end()
        await self.line.drain(_LAST_WORDS_S)

    async def close(self) -> None:
        """Unloads the models."""
        self.line.ending = True
        if self.loading:
            self.loading.cancel()
        await self.pool.close()
        self.executor.shutdown(wait=False, cancel_futures=True)


class _Places:
    """The places that the answers to one request have in the line, and what is told of their steps."""

    def __init__(self, server: Server, request: Request) -> None:
        self._line, self._ticket = server.line, ticket_of(request.scope)
        self._exchange = exchanges.of(request.scope)
        self._followed = server.metrics.follow(self._exchange)
        self._taken: set[int] = set()
        limit_s = server.options.deadline_s
        self._deadline = None if limit_s is None else asyncio.get_running_loop().time() + limit_s

    async def take(self, number: int) -> float | None:
        """See Course."""
        try:
            async with asyncio.timeout_at(self._deadline):
                waited_s = await self._line.place(self._ticket)
        except TimeoutError as error:
            raise DeadlinePassed("the answer was not begun within the time that it was given") from error
        self._taken.add(number)
        self._exchange.waited_s += 0.0 if number else waited_s
        return None if self._deadline is None else max(0.0, self._deadline - asyncio.get_running_loop().time())

    def tell(self, number: int, step: Token | Exception) -> None:
        """See Course. An answer that ends leaves its place."""
        self._followed.take(number, step)
        if (isinstance(step, Exception) or step.finish is not None) and number in self._taken:
            self._taken.discard(number)
            self._line.end_answer(self._ticket)


def _slots(chat: Chat) -> int | None:
    return chat.slots if isinstance(chat, Engine) else None


def _log_failure(loading: asyncio.Task[None]) -> None:
    """Under a server that is not ours nobody else would hear of it."""
    if not loading.cancelled() and (error := loading.exception()):
        log.error("a model that is to be ready cannot be loaded: %s", error)


def server_of(request: Request) -> Server:
    """The server that a request is for."""
    server: Server = request.app.state.server
    return server
