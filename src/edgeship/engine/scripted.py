"""An engine without a model: answers from a table, byte by byte. For tests and documentation."""

from __future__ import annotations

import codecs
import itertools
import json
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeship.engine.api import Message, Prompt, Sampling, Token, check_first, check_sampling, check_tokens, utf8
from edgeship.engine.chat import answer_tokens
from edgeship.engine.tokens import read_json
from edgeship.errors import EngineFailed, PromptInvalid

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

END, TURN = 256, 257
VOCAB_SIZE = 258
SCRIPT_NAME = "scripted.json"


class ScriptedEngine:
    """Answers the last user message with what `answers` holds for it, else with `default`.

    Tokens are the bytes of UTF-8, then END and TURN. `delay_s` passes before each token. What has no meaning
    without a model (temperature and the like) is checked and has no effect.
    """

    name = "scripted"

    def __init__(
        self,
        answers: Mapping[str, str],
        *,
        default: str = "I do not know.",
        context_tokens: int = 4096,
        delay_s: float = 0.0,
    ) -> None:
        self.answers = dict(answers)
        self.default = default
        self.context_tokens = context_tokens
        self.vocab_size = VOCAB_SIZE
        self.defaults = Sampling(temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0)
        self.delay_s = delay_s
        self._open = True

    @classmethod
    def read(cls, folder: Path) -> ScriptedEngine:
        """The engine of a folder's scripted.json: {"answers": {...}} and the constructor's options."""
        path = folder / SCRIPT_NAME
        script = read_json(path)
        try:
            return cls(script.pop("answers"), **script)
        except (KeyError, TypeError) as error:
            raise EngineFailed(f"{SCRIPT_NAME} cannot be used: {error}", where=str(path)) from error

    def chat(self, messages: Sequence[Message]) -> Prompt:
        """Each message as TURN, role, line break, content; then TURN and the assistant's role."""
        if not messages:
            raise PromptInvalid("the conversation has no message")
        turns = [f"{message['role']}\n{message['content']}" for message in messages] + ["assistant\n"]
        return Prompt(tuple(itertools.chain.from_iterable((TURN, *utf8(turn)) for turn in turns)))

    def encode(self, text: str) -> Prompt:
        """The bytes of a text."""
        return Prompt(tuple(utf8(text)))

    def stream(self, prompt: Prompt, sampling: Sampling, cancel: threading.Event | None = None) -> Iterator[Token]:
        """The answer, token by token; see Engine.stream."""
        check_tokens(prompt.tokens, limit=self.context_tokens - 1, vocab_size=self.vocab_size)
        check_sampling(sampling)
        self._check_open()
        room = self.context_tokens - len(prompt.tokens)
        answer = self.answers.get(_last_user_text(prompt.tokens), self.default).encode()
        return answer_tokens(
            self._ids(answer, for_ever=sampling.ignore_eos),
            _ByteText(),
            limit=min(sampling.max_tokens or room, room),
            end_ids=(END,),
            stop=sampling.stop,
            cancel=cancel,
        )

    def score(self, tokens: Sequence[int], first: int = 0) -> npt.NDArray[np.float32]:
        """Logits of a model that takes every text to repeat its last token; see Engine.score."""
        import numpy as np

        check_tokens(tokens, limit=self.context_tokens, vocab_size=self.vocab_size)
        check_first(first, tokens)
        self._check_open()
        logits = np.zeros((len(tokens), self.vocab_size), np.float32)
        logits[np.arange(len(tokens)), list(tokens)] = 4.0
        return logits[first:]

    def close(self) -> None:
        """Any later use raises EngineFailed."""
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise EngineFailed("the engine is closed")

    def _ids(self, answer: bytes, *, for_ever: bool) -> Generator[int, None, None]:
        for token in itertools.cycle(answer or b"-") if for_ever else (*answer, END):
            time.sleep(self.delay_s)
            yield token


class _ByteText:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(bytes([token])) if token < END else ""

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


def _last_user_text(tokens: Sequence[int]) -> str:
    """The content of the last turn of the user; of a prompt without turns, all of it."""
    turns: list[bytearray] = [bytearray()]
    for token in tokens:
        if token == TURN:
            turns.append(bytearray())
        elif token < END:
            turns[-1].append(token)
    texts = [turn.decode(errors="replace") for turn in turns]
    asked = [text.removeprefix("user\n") for text in texts if text.startswith("user\n")]
    return asked[-1] if asked else texts[0]


def write_script(folder: Path, answers: Mapping[str, str], **options: str | float) -> None:
    """Writes what `ScriptedEngine.read` reads."""
    script = {"answers": dict(answers)} | options
    (folder / SCRIPT_NAME).write_text(json.dumps(script, ensure_ascii=False), encoding="utf-8")
