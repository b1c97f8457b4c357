"""What all requests share: the models, and the threads in which answers are begun."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import Request

from edgeship.engine.api import Conversation, Engine, Prompt, Sampling
from edgeship.errors import NotSupported
from edgeship.serve.answering import Answers, Ask
from edgeship.serve.bodies import HELD
from edgeship.serve.models import Opened, Pool
from edgeship.serve.openai.stored import StoredResponses
from edgeship.serve.options import ServeOptions

Some = TypeVar("Some")
log = logging.getLogger("edgeship.serve")
# Beginning an answer takes a moment, or as long as a model that died takes to come back. No thread waits after that.
_THREADS = 256


class Server:
    """The state of one application. Made when it starts, closed when it ends."""

    def __init__(self, pool: Pool, options: ServeOptions) -> None:
        self.pool, self.options = pool, options
        self.stored = StoredResponses(
            most=options.stored_responses, most_bytes=options.stored_bytes, most_age_s=options.stored_s
        )
        self.executor = ThreadPoolExecutor(_THREADS, "edgeship serve")

    async def open(self, request: Request, name: str | None, *, keep_alive_s: float | None = None) -> Opened:
        """The model called `name`, which stays loaded until the request is over. Raises ModelUnknown, MemoryShort."""
        opened: Opened = await request.scope[HELD].enter_async_context(self.pool.use(name, keep_alive_s=keep_alive_s))
        return opened

    async def answer(self, request: Request, asks: Sequence[Ask]) -> Answers:
        """The answers that these begin, which end with the request. Raises what an engine refuses one with."""
        answers = Answers(self.executor)
        request.scope[HELD].callback(answers.close)
        await answers.begin(asks)
        return answers

    async def in_thread(self, work: Callable[[], Some]) -> Some:
        """What `work` gives or raises, while other requests go on."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, work)

    async def converse(
        self, request: Request, opened: Opened, conversation: Conversation, samplings: Sequence[Sampling]
    ) -> Answers:
        """One answer to a conversation for each of these settings. Raises as `answer` does."""
        deadline_s = self.options.deadline_s

        def ask(sampling: Sampling) -> Ask:
            return lambda cancel, on_step: opened.chat.converse(
                conversation, sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step
            )

        return await self.answer(request, [ask(sampling) for sampling in samplings])

    async def render(self, opened: Opened, conversation: Conversation) -> Prompt:
        """The prompt of a conversation. Raises NotSupported for a model whose tokens are not known, as `render`."""
        if not isinstance(opened.chat, Engine):
            raise NotSupported(f"{opened.card.id} does not tell its tokens", hint="Ask a package.")
        return await asyncio.get_running_loop().run_in_executor(self.executor, opened.chat.render, conversation)

    async def close(self) -> None:
        """Unloads the models."""
        await self.pool.close()
        self.executor.shutdown(wait=False, cancel_futures=True)


def server_of(request: Request) -> Server:
    """The server that a request is for."""
    server: Server = request.app.state.server
    return server
