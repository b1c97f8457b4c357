"""Prompts of a number of tokens, asked one at a time: of token ids where the target takes them, else of words."""

from __future__ import annotations

import queue
import random
import secrets
from collections.abc import Callable
from dataclasses import replace

from edgeship.engine.api import Chat, Engine, Sampling
from edgeship.engine.remote import RemoteChat
from edgeship.errors import EdgeshipError
from edgeship.measure.load.chats import ChatAsker, failure_of
from edgeship.measure.load.records import Reply
from edgeship.measure.load.servers import ServerAsker
from edgeship.measure.load.texts import Vocabulary, learn, text_prompts
from edgeship.measure.load.workload import Question, token_prompts
from edgeship.system import border

TIMEOUT_S = 600.0


class Prompts:
    """Asks a chat prompts that differ from their first tokens on, so that none is known from before.

    in_words: of words too where the target takes token ids. Raises what its chat template does.
    exact: whether their tokens are counted, and not assumed. least_tokens: no prompt is shorter.
    """

    def __init__(self, chat: Chat, *, seed: int | None = None, in_words: bool = False) -> None:
        self.chat = chat
        # A server may remember the prompts of the last time.
        self._seed = seed if seed is not None else secrets.randbelow(2**31) if isinstance(chat, RemoteChat) else 0
        self._chance, self._number = random.Random(self._seed), self._seed % 1000
        self._asker = ServerAsker(chat, TIMEOUT_S) if isinstance(chat, RemoteChat) else ChatAsker(chat)
        self._words: Vocabulary | None = None
        if in_words or not isinstance(chat, Engine):
            count, cheap = self._asker.counter() if isinstance(self._asker, ServerAsker) else (self._asker.count, True)
            self._words = learn(count, cheap=cheap)
        self.exact = self._words is None or self._words.exact
        self.least_tokens = 1 if self._words is None else self._words.overhead + 2

    @property
    def goes_on(self) -> bool:
        """Whether answers can be asked not to end before they are as long as they may be."""
        return self._asker.takes_ignore_eos

    def sampling_of(self, question: Question) -> Sampling:
        """How a question is asked, as far as every kind of target is asked alike."""
        goes_on = question.ignore_eos and self.goes_on
        # What measures tells engines to leave out the penalty, and servers nothing of it.
        penalty = 1.0 if goes_on and isinstance(self._asker, ChatAsker) else None
        return Sampling(
            temperature=question.temperature,
            repetition_penalty=penalty,
            max_tokens=question.new_tokens,
            ignore_eos=goes_on,
        )

    def make(self, tokens: int, new_tokens: int | None) -> Question:
        """A prompt of so many tokens, or of about as many. new_tokens: of the answer at most; None sets no limit."""
        if self._words is not None:
            make = text_prompts(self._words, tokens, new_tokens or 1)
        else:
            assert isinstance(self.chat, Engine), "what is no engine is asked words"
            make = token_prompts(self.chat.vocab_size, tokens, new_tokens or 1, self._seed)
        self._number += 1
        return replace(make(self._chance, self._number), new_tokens=new_tokens)

    def ask(self, question: Question) -> Reply:
        """What came, waited for; what is refused is a failure. Raises what is a fault of our own."""
        inbox: queue.SimpleQueue[Callable[[], Reply]] = queue.SimpleQueue()
        try:
            self._asker.ask(question, TIMEOUT_S, inbox.put)
        except EdgeshipError as error:
            return Reply((), 0.0, failure=failure_of(error))
        return border.take(inbox)()
