"""What all requests share: the models, the line in front of them, and the threads in which answers are begun."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import Request

from edgeship.engine.api import Conversation, Engine, Prompt, Sampling, Token
from edgeship.errors import DeadlinePassed, NotSupported, RequestInvalid
from edgeship.serve import exchange as exchanges
from edgeship.serve.answering import Answers, Ask
from edgeship.serve.bodies import HELD
from edgeship.serve.exchange import Exchange
from edgeship.serve.line import Line, Ticket
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
_TICKET = "edgeship.ticket"


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
        self.loading = asyncio.create_task(self.pool.warm(ready))
        self.loading.add_done_callback(_log_failure)
        return self.loading

    async def open(self, request: Request, name: str | None, *, keep_alive_s: float | None = None) -> Opened:
        """The model called `name`, which stays loaded until the request is over.

        Raises ModelUnknown, MemoryShort, EngineBusy where too many wait, ServerEnding.
        """
        exchange, held = exchanges.of(request.scope), request.scope[HELD]
        exchange.model = self.pool.find(name).id
        request.scope[_TICKET] = held.enter_context(self.line.joined(exchange.model, exchange.priority))
        opened: Opened = await held.enter_async_context(self.pool.use(name, keep_alive_s=keep_alive_s))
        exchange.slots = opened.chat.slots if isinstance(opened.chat, Engine) else None
        return opened

    async def answer(self, request: Request, asks: Sequence[Ask]) -> Answers:
        """The answers that these begin, which end with the request.

        Raises what an engine refuses one with, ServerEnding, and DeadlinePassed for one that waits for too long.
        """
        exchange, held = exchanges.of(request.scope), request.scope[HELD]
        ticket: Ticket = request.scope[_TICKET]
        deadline_s = self.options.deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                waited_s = await self.line.place(ticket, len(asks), exchange.slots)
        except TimeoutError as error:
            raise DeadlinePassed("the answer was not begun within the time that it was given") from error
        exchange.waited_s += waited_s
        answers = Answers(self.executor, self._followed(ticket, exchange, len(asks)))
        self._answers.add(answers)
        held.callback(self._answers.discard, answers)
        held.callback(answers.close)
        await answers.begin(asks, None if deadline_s is None else max(0.0, deadline_s - waited_s))
        return answers

    def _followed(self, ticket: Ticket, exchange: Exchange, answers: int) -> Callable[[int, Token | Exception], None]:
        """What each step of a request's answers is told to: they are counted, and those that end leave their places."""
        followed, going = self.metrics.follow(exchange), set(range(answers))

        def take(number: int, step: Token | Exception) -> None:
            followed.take(number, step)
            if isinstance(step, Exception) or step.finish is not None:
                going.discard(number)
                self.line.keep(ticket, len(going))

        return take

    async def in_thread(self, work: Callable[[], Some]) -> Some:
        """What `work` gives or raises, while other requests go on."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, work)

    async def converse(
        self, request: Request, opened: Opened, conversation: Conversation, samplings: Sequence[Sampling]
    ) -> Answers:
        """One answer to a conversation for each of these settings.

        Raises as `answer` does, and RequestInvalid for one that was begun and is to be held to something: what is there
        already was not.
        """
        if conversation.continues and any(sampling.constraint for sampling in samplings):
            raise RequestInvalid(
                "an answer that goes on with the last message cannot be held to anything",
                param="messages",
                hint="Let the model answer anew.",
            )

        def ask(sampling: Sampling) -> Ask:
            return lambda cancel, deadline_s, on_step: opened.chat.converse(
                conversation, sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step
            )

        return await self.answer(request, [ask(sampling) for sampling in samplings])

    async def render(self, opened: Opened, conversation: Conversation) -> Prompt:
        """The prompt of a conversation. Raises NotSupported for a model whose tokens are not known, as `render`."""
        if not isinstance(opened.chat, Engine):
            raise NotSupported(f"{opened.card.id} does not tell its tokens", hint="Ask a package.")
        return await asyncio.get_running_loop().run_in_executor(self.executor, opened.chat.render, conversation)

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


def _log_failure(loading: asyncio.Task[None]) -> None:
    """Under a server that is not ours nobody else would hear of it."""
    if not loading.cancelled() and (error := loading.exception()):
        log.error("a model that is to be ready cannot be loaded: %s", error)


def server_of(request: Request) -> Server:
    """The server that a request is for."""
    server: Server = request.app.state.server
    return server
