"""An engine without a model: answers from a table, byte by byte, where a test needs determinism."""

from __future__ import annotations

import codecs
import itertools
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeship.engine.api import (
    DEFAULT_LIMITS,
    AnswerSteps,
    CallPiece,
    Conversation,
    Limits,
    OnStep,
    Prompt,
    Sampling,
    Stats,
    Token,
    ToolCall,
    Usage,
    utf8,
)
from edgeship.engine.codec import Spelling
from edgeship.engine.continuous import ContinuousEngine
from edgeship.engine.decoders import Chunk, Floats
from edgeship.engine.grammar import Grammars
from edgeship.engine.opening import EngineOptions
from edgeship.engine.schedule import StepTimes
from edgeship.engine.thinking import Marks
from edgeship.engine.tools import CallMarks
from edgeship.errors import EngineFailed
from edgeship.package import DAMAGED
from edgeship.package.conversation import text_of
from edgeship.package.tool_formats import HERMES
from edgeship.system.json_file import read_object

END, TURN = 256, 257
VOCAB_SIZE = 258
SCRIPT_NAME = "scripted.json"
DEFAULTS = Sampling(
    temperature=0.0,
    top_p=1.0,
    top_k=0,
    min_p=0.0,
    repetition_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
)
# Far enough above the others that no temperature in use makes another token likely.
_SURE = 100.0


class ScriptedEngine(ContinuousEngine):
    """The engine over a ScriptedDecoder; `options` are the decoder's."""

    def __init__(
        self,
        answers: Mapping[str, str],
        *,
        limits: Limits = DEFAULT_LIMITS,
        speculation: bool | None = None,
        times: StepTimes | None = None,
        thought_marks: Marks | None = None,
        **options: Any,
    ) -> None:
        tokens = [bytes([byte]) for byte in range(END)] + [b"<end>", b"<turn>"]
        super().__init__(
            ScriptedDecoder(answers, **options),
            ByteCodec(thought_marks),
            Grammars(tokens, VOCAB_SIZE, (END,), special_ids=(END, TURN)),
            defaults=DEFAULTS,
            end_ids=(END,),
            cache_bytes=limits.kv_bytes or 0,
            waiting=limits.waiting,
            speculation=speculation,
            times=times,
        )

    @classmethod
    def read(cls, folder: Path, limits: Limits = DEFAULT_LIMITS, speculation: bool | None = None) -> ScriptedEngine:
        """The engine of a folder's scripted.json: {"answers": {...}} and options. Raises EngineFailed."""
        path = folder / SCRIPT_NAME
        script = read_object(path, DAMAGED)
        if limits.context_tokens:
            script["context_tokens"] = min(limits.context_tokens, script.get("context_tokens", limits.context_tokens))
        if limits.slots:
            script["slots"] = limits.slots
        try:
            return cls(script.pop("answers"), limits=limits, speculation=speculation, **script)
        except (KeyError, TypeError) as error:
            raise EngineFailed(f"{SCRIPT_NAME} cannot be used: {error}", where=str(path)) from error


class CallingEngine(ScriptedEngine):
    """Calls the first tool that it is given, with these arguments, and answers as ever once a call has come back.

    It calls whatever it is asked, and at once: what writes calls as models do is a ScriptedEngine. A call costs a token
    of a prompt.
    """

    def __init__(self, answers: Mapping[str, str], arguments: str, **options: Any) -> None:
        super().__init__(answers, **options)
        self._arguments = arguments

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        """See Chat. With `on_step` only."""
        if conversation.tool_use is None or conversation.messages[-1]["role"] == "tool":
            return super().converse(conversation, sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step)
        assert on_step
        call = ToolCall("call_0", conversation.tool_use.names[0], self._arguments)
        for step in (
            Token(None, "", calling=(CallPiece(0, call.id, call.name, call.arguments),), tool_calls=(call,)),
            Token(None, "", finish="tool_calls", usage=Usage(1, 2, 0.0, 0.0)),
        ):
            on_step(step)
        return Made()


class ScriptedChat:
    """A ScriptedEngine as no more than a chat, whose steps have no ids. closed: a file that is there after `close`."""

    name = "scripted chat"
    note: str | None = None

    def __init__(self, engine: ScriptedEngine, closed: Path) -> None:
        self._engine, self._closed = engine, closed
        self.defaults, self.codec, self.context_tokens = engine.defaults, engine.codec, engine.context_tokens

    def __enter__(self) -> ScriptedChat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        """See Chat. With `on_step` only."""
        assert on_step

        def tell(step: Token | Exception) -> None:
            on_step(replace(step, id=None) if isinstance(step, Token) else step)

        return self._engine.converse(conversation, sampling, cancel=cancel, deadline_s=deadline_s, on_step=tell)

    def stats(self) -> Stats:
        """See Chat."""
        return self._engine.stats()

    def close(self) -> None:
        """See Chat."""
        self._engine.close()
        self._closed.touch()


class Made:
    """The steps of an answer that has been given already."""

    def __iter__(self) -> Made:
        return self

    def __next__(self) -> Token:
        raise StopIteration

    def close(self) -> None:
        """There is nothing to end."""


class SteadyTimes(StepTimes):
    """Steps that always take as long, whatever else the machine does: what is decided by them is the same each time."""

    def __init__(self, step_s: float, more_token_s: float) -> None:
        super().__init__()
        self._batch_s = dict.fromkeys(range(1, 65), step_s)
        self._more_token_s = more_token_s

    def note_batch(self, rows: int, seconds: float) -> None:
        """Learns nothing."""

    def note_read(self, tokens: int, seconds: float) -> None:
        """Learns nothing."""

    def note_check(self, tokens: int, seconds: float) -> None:
        """Learns nothing."""


class ScriptedDecoder:
    """Is sure of the answer that `answers` holds for the last message of a user or a tool, else of `default`.

    Tokens are the bytes of UTF-8, then END and TURN. A text without turns is answered with `default`, from where it
    has got to. `delay_s` passes in each step, `token_s` for each token in it. What a slot "holds" are its tokens.
    """

    name = "scripted"
    vocab_size = VOCAB_SIZE
    threads = 1
    keeps_prefixes = True
    goes_back = True

    def __init__(
        self,
        answers: Mapping[str, str],
        *,
        default: str = "I do not know.",
        context_tokens: int = 4096,
        slots: int = 4,
        delay_s: float = 0.0,
        token_s: float = 0.0,
    ) -> None:
        self.answers = dict(answers)
        self.default = default
        self.context_tokens = context_tokens
        self.slots = slots
        self.delay_s, self.token_s = delay_s, token_s
        self._held: list[list[int]] = [[] for _ in range(slots)]
        self._open = True

    def step(self, chunks: Sequence[Chunk], *, invariant: bool = False) -> list[Floats]:  # noqa: ARG002 - always is
        """See Decoder.step."""
        if not self._open:
            raise EngineFailed("the engine is closed")
        time.sleep(self.delay_s + self.token_s * sum(len(chunk.tokens) for chunk in chunks))
        return [self._logits(chunk) for chunk in chunks]

    def read(self, slot: int, start: int, end: int) -> Floats:
        """The tokens, [2, tokens, 1]."""
        return np.array([self._held[slot][start:end]] * 2, np.float32)[:, :, None]

    def write(self, slot: int, start: int, entries: Floats) -> None:
        """See Decoder.write."""
        self._held[slot] = self._held[slot][:start] + entries[0, :, 0].astype(int).tolist()

    def read_state(self, slot: int) -> Floats:  # noqa: ARG002
        """There is none."""
        return np.empty(0, np.float32)

    def write_state(self, slot: int, state: Floats) -> None:
        """There is none."""

    def release(self, slot: int) -> None:
        """See Decoder.release."""
        self._held[slot] = []

    def settle(self) -> bool:
        return False

    def close(self) -> None:
        """Any later use raises EngineFailed."""
        self._open = False

    def _logits(self, chunk: Chunk) -> Floats:
        held = self._held[chunk.slot]
        if chunk.start > len(held):
            raise EngineFailed(f"slot {chunk.slot} holds {len(held)} tokens and not {chunk.start}")
        held[chunk.start :] = chunk.tokens
        logits = np.zeros((chunk.wanted, VOCAB_SIZE), np.float32)
        for row in range(chunk.wanted):
            logits[row, self._next(held[: len(held) - chunk.wanted + row + 1])] = _SURE
        return logits

    def _next(self, tokens: Sequence[int]) -> int:
        turns = _turns(tokens)
        if turns is None:
            answer = self.default.encode()
            reached = _reached(bytes(token for token in tokens[-len(answer) :] if token < END), answer)
        else:
            asked, said = turns
            answer = self.answers.get(asked, self.default).encode()
            reached = len(said)
        return answer[reached] if reached < len(answer) else END


class ByteCodec:
    """Text as the bytes of UTF-8. thought_marks: bytes around thoughts."""

    call_marks = CallMarks(HERMES)
    template = None
    config: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, thought_marks: Marks | None = None) -> None:
        self.thought_marks = thought_marks
        self.thinks = thought_marks is not None

    def render(self, conversation: Conversation) -> Prompt:
        """Each message as TURN, role, line break, content; then TURN and the assistant's role, unless that is there."""
        turns = [f"{message['role']}\n{text_of(message.get('content'))}" for message in conversation.messages]
        begun = [] if conversation.continues else ["assistant\n"]
        return Prompt(
            tuple(itertools.chain.from_iterable((TURN, *utf8(turn)) for turn in [*turns, *begun])),
            conversation.tool_use,
            conversation.continues,
        )

    def encode(self, text: str, *, special: bool = True) -> Prompt:  # noqa: ARG002 - nothing is put around a text
        """The bytes of a text."""
        return Prompt(tuple(utf8(text)), continues=True)

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of bytes; END and TURN are special."""
        shown = [each.in_bytes for each in self.spell(tokens) if special or not each.special]
        return b"".join(shown).decode(errors="replace")

    def spell(self, tokens: Sequence[int]) -> tuple[Spelling, ...]:
        """Each byte as it is."""
        named = {END: Spelling(b"<end>", special=True), TURN: Spelling(b"<turn>", special=True)}
        return tuple(named.get(token) or Spelling(bytes([token])) for token in tokens)

    def places(self, tokens: Sequence[int], text: str) -> tuple[int, ...]:  # noqa: ARG002 - special ones are left out
        """Where the character of each byte begins."""
        stream = self.stream()
        ends = itertools.accumulate(len(stream.push(token)) for token in tokens)
        return (0, *ends)[: len(tokens)]

    def stream(self, after: Sequence[int] = ()) -> _ByteText:  # noqa: ARG002 - bytes are the same anywhere
        """A new stream of text."""
        return _ByteText()


class _ByteText:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(bytes([token])) if token < END else ""

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


def _turns(tokens: Sequence[int]) -> tuple[str, list[int]] | None:
    """The last message of a user or a tool, and what has been said since; None where nobody answers yet."""
    parts: list[list[int]] = [[]]
    for token in tokens:
        if token == TURN:
            parts.append([])
        else:
            parts[-1].append(token)
    role = list(b"assistant\n")
    if len(parts) < 2 or parts[-1][: len(role)] != role:
        return None
    texts = [bytes(token for token in part if token < END).decode(errors="replace") for part in parts[1:-1]]
    asked = [text.partition("\n")[2] for text in texts if text.startswith(("user\n", "tool\n"))]
    said = parts[-1][len(role) :]
    # Past its end an answer begins anew.
    ends = [index for index, token in enumerate(said) if token == END]
    return (asked[-1] if asked else ""), said[ends[-1] + 1 if ends else 0 :]


def _reached(text: bytes, answer: bytes) -> int:
    """How much of the answer the text ends with."""
    return next(count for count in range(len(answer), -1, -1) if text.endswith(answer[:count]))


def write_script(folder: Path, answers: Mapping[str, str], **options: Any) -> None:
    """Writes what `ScriptedEngine.read` reads."""
    script = {"answers": dict(answers)} | options
    (folder / SCRIPT_NAME).write_text(json.dumps(script, ensure_ascii=False), encoding="utf-8")


ENGINE, CHAT = "tests.scripted:open_scripted", "tests.scripted:open_scripted_chat"
"""What `load` and IsolatedEngine take as the engine's name, and what `load_chat` and IsolatedChat take for a chat."""


def open_scripted(options: EngineOptions) -> ScriptedEngine:
    """The engine of a folder's scripted.json."""
    return ScriptedEngine.read(options.folder, options.limits, options.speculation)


def open_scripted_chat(options: EngineOptions) -> ScriptedChat:
    """The same as no more than a chat."""
    return ScriptedChat(open_scripted(options), options.folder / "closed")
