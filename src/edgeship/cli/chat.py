"""Talking to a model: a streaming chat with history, or one answer."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any, TextIO

from edgeship.cli import streams
from edgeship.cli.failure import explain
from edgeship.engine.answer import Answer, ask
from edgeship.engine.api import Chat, Conversation, Engine, Message, Sampling, check_sampling
from edgeship.errors import AnswerCut, ContextFull, EdgeshipError, UsageError
from edgeship.system.text import as_shown

EXIT_INTERRUPTED = 130
BLOCK = '"""'
HELP = """\
/system TEXT   give the model its instructions; without TEXT, show them; /system none takes them back
/reset         forget the conversation, keep the instructions; so does /clear
/set NAME N    another temperature, top_p, top_k, min_p, max_tokens, seed or repetition_penalty; /set shows them
/stats         tokens, speed and context of the last answer
/help          this list; so does /?
/exit          leave; so do /bye, /quit and Ctrl-D
\"""            begin a message of several lines; \""" ends it. Such a message may begin with /.
Ctrl-C         stop an answer"""
ANSWER_SHARE = 4
"""Of the context at least this part is kept free for an answer, where the conversation is longer than its question."""
_SETTINGS = ("temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "repetition_penalty")
_OLLAMA = {"num_predict": "max_tokens", "repeat_penalty": "repetition_penalty"}


def chat(
    model: Chat,
    sampling: Sampling,
    *,
    system: str | None = None,
    variables: Mapping[str, Any] = MappingProxyType({}),
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
) -> int:
    """Chats until the user leaves; returns the exit code. Nothing that the user types ends it with an error."""
    terminal = _Terminal(stdin or sys.stdin, stdout or sys.stdout)
    return _Session(model, sampling, system, terminal, variables).run()


def answer_once(
    model: Chat,
    conversation: Conversation,
    sampling: Sampling,
    *,
    as_json: bool = False,
    stats: bool = False,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Streams one answer to stdout, or prints it as JSON with what it cost. Calls follow its text, one a line as JSON.

    Raises as the model does.
    Returns 130 where Ctrl-C cut the answer, and AnswerCut's exit code where it was held to something and is incomplete.
    """
    out = _Terminal(sys.stdin, stdout or sys.stdout)
    with _ctrl_c_cancels() as cancel:
        tells = {} if as_json else {"tell": out.say, "tell_thoughts": streams.think}
        answer = ask(model, conversation, sampling, cancel=cancel, **tells)
    required = conversation.tool_use is not None and conversation.tool_use.required
    cut = _cut(answer, model.context_tokens) if sampling.constraint or required else None
    if as_json:
        facts: dict[str, Any] = {"answer": answer.text, "finish": answer.finish, "usage": answer.usage.to_dict()}
        facts |= {"thinking": answer.thinking} if answer.thinking else {}
        facts |= {"tool_calls": [asdict(call) for call in answer.tool_calls]} if answer.tool_calls else {}
        out.say(json.dumps(facts | ({"error": cut.to_dict()} if cut else {}), indent=2, ensure_ascii=False))
    elif answer.tool_calls:
        calls = [f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}' for call in answer.tool_calls]
        out.say(("\n" if answer.text else "") + "\n".join(calls))
    out.say("\n")
    if stats:
        _Terminal(sys.stdin, stderr or sys.stderr).note(_describe(answer, model.context_tokens))
    if cut:
        return explain(cut, as_json=False)
    return EXIT_INTERRUPTED if answer.finish == "cancelled" else 0


def where_instructions_go(model: Chat, system: str) -> str | None:
    """What is to be said of a model whose template has no system role. Raises as `Engine.render`."""
    if not isinstance(model, Engine):
        return None  # others tell with the next answer
    told = model.render(Conversation([{"role": "system", "content": system}, {"role": "user", "content": "?"}]))
    joined = model.render(Conversation([{"role": "user", "content": f"{system}\n\n?"}]))
    return "this model has no system role, so the instructions go before the first question" if told == joined else None


class _Session:
    def __init__(
        self,
        model: Chat,
        sampling: Sampling,
        system: str | None,
        terminal: _Terminal,
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._model = model
        self._sampling = sampling
        self._terminal = terminal
        self._system = system
        self._variables = variables
        self._turns: list[Message] = []
        self._last: Answer | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: terminal.note(HELP),
            "/?": lambda _: terminal.note(HELP),
            "/reset": self._reset,
            "/clear": self._reset,
            "/set": self._set,
            "/stats": self._stats,
            "/system": self._set_system,
        }

    def run(self) -> int:
        self._terminal.note("Type a message. /help lists the commands, Ctrl-D leaves.")
        leaving = False
        while True:
            try:
                line = self._terminal.read(">>> ").strip()
                leaving = False
                if line in ("/exit", "/bye", "/quit"):
                    return 0
                self._take(line)
            except EOFError:
                self._terminal.note("")
                return 0
            except KeyboardInterrupt:
                if leaving:
                    return 0
                leaving = True
                self._terminal.note("\nCtrl-D or /exit leaves; so does Ctrl-C once more.")
            except UnicodeDecodeError:
                self._terminal.note("That was not UTF-8 text, and was not sent.")
            except EdgeshipError as error:
                self._terminal.note(f"{error.what}. {error.hint or ''}".rstrip())

    def _take(self, line: str) -> None:
        if line.startswith(BLOCK):
            line = self._read_block(line)
        elif line.startswith("/"):
            word, _, rest = line.partition(" ")
            command = self._commands.get(word)
            if command is None:
                self._terminal.note(f"There is no command {word}. /help lists those there are.")
            else:
                command(rest.strip())
            return
        if line.strip():
            self._answer(line)

    def _read_block(self, line: str) -> str:
        text = line.removeprefix(BLOCK)
        while not text.rstrip().endswith(BLOCK):
            text += "\n" + self._terminal.read("... ")
        return text.rstrip().removesuffix(BLOCK).strip("\n")

    def _conversation(self, question: Message, turns: Sequence[Message] | None = None) -> Conversation:
        first: list[Message] = [{"role": "system", "content": self._system}] if self._system else []
        turns = self._turns if turns is None else turns
        return Conversation([*first, *turns, question], variables=self._variables)

    def _answer(self, text: str) -> None:
        question = {"role": "user", "content": text}
        self._make_room(question)
        try:
            answer = self._ask(question)
        except ContextFull as error:
            self._terminal.note(f"The context is full: {error.what}. Your message was not sent; /reset starts afresh.")
            return
        self._terminal.say("\n")
        if answer.finish == "cancelled" and not answer.text:
            self._terminal.note("Stopped before the first word; your message is forgotten.")
            return
        self._turns += [question, {"role": "assistant", "content": answer.text}]
        self._last = answer
        if answer.finish == "cancelled":
            self._terminal.note("Stopped.")
        elif answer.finish == "length":
            self._terminal.note(f"The answer was {_cut_where(answer, self._model.context_tokens)}.")

    def _ask(self, question: Message) -> Answer:
        """The answer; what does not tell how long a prompt is refuses one, and is asked again without the oldest."""
        while True:
            try:
                with _ctrl_c_cancels() as cancel:
                    conversation = self._conversation(question)
                    tells = {"tell": self._terminal.say, "tell_thoughts": streams.think}
                    return ask(self._model, conversation, self._sampling, cancel=cancel, **tells)
            except ContextFull:
                if not self._turns:
                    raise
                self._forget(1)

    def _make_room(self, question: Message) -> None:
        """Lets the oldest questions go, with their answers, until this one can be answered at some length."""
        if not isinstance(self._model, Engine):
            return  # others do not tell how long a prompt is
        context = self._model.context_tokens
        most = context - min(self._sampling.max_tokens or context, context // ANSWER_SHARE)
        kept = self._turns
        while kept and len(self._model.render(self._conversation(question, turns=kept)).tokens) > most:
            kept = kept[2:]
        self._forget((len(self._turns) - len(kept)) // 2)

    def _forget(self, count: int) -> None:
        """The oldest questions leave the conversation with their answers, and it is said."""
        if count:
            self._turns = self._turns[2 * count :]
            what = "question and its answer have" if count == 1 else f"{count} questions and their answers have"
            self._terminal.note(f"[The context is full: the oldest {what} left the conversation.]")

    def _reset(self, _: str) -> None:
        self._turns, self._last = [], None
        self._terminal.note("The conversation is forgotten.")

    def _set(self, given: str) -> None:
        name, _, value = given.removeprefix("parameter ").partition(" ")
        name = _OLLAMA.get(name, name)
        if name == "system":
            self._set_system(value.strip().strip('"'))
        elif name in _SETTINGS and value:
            change: dict[str, Any] = {name: _number(value)}
            sampling = replace(self._sampling, **change)
            check_sampling(sampling)
            self._sampling = sampling
            self._terminal.note(f"{name} is {value.strip()}.")
        else:
            known = self._sampling.over(self._model.defaults)
            shown = ", ".join(f"{name} {getattr(known, name)}" for name in _SETTINGS)
            self._terminal.note(f"/set NAME NUMBER sets one of these: {shown}")

    def _stats(self, _: str) -> None:
        if self._last is None:
            self._terminal.note("There is no answer yet.")
        else:
            self._terminal.note(_describe(self._last, self._model.context_tokens))

    def _set_system(self, text: str) -> None:
        if not text:
            self._terminal.note(self._system or "There are no instructions.")
            return
        if text == "none":
            self._system = None
            self._terminal.note("There are no instructions any more.")
            return
        remark = where_instructions_go(self._model, text)
        self._system = text
        self._terminal.note("The instructions are set." + (f" Note: {remark}." if remark else ""))


class _Terminal:
    """Lines in, pieces of text out. Without a terminal there is no prompt and output is left as it is."""

    def __init__(self, stdin: TextIO, stdout: TextIO) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._bare = not stdout.isatty()
        # Only `input` edits lines, and it always uses the process's own streams.
        self._edits = stdin is sys.stdin and stdout is sys.stdout and stdin.isatty() and not self._bare
        if self._edits:
            with suppress(ImportError):
                import readline  # noqa: F401 - its import gives `input` editing and history

    def read(self, prompt: str) -> str:
        """The next line, without its end. Raises EOFError."""
        if self._edits:
            return input(prompt)
        if not self._bare:
            self.say(prompt)
        line = self._stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def say(self, text: str) -> None:
        """Shows text at once."""
        text = as_shown(text, self._stdout)
        encoding = self._stdout.encoding or "utf-8"
        self._stdout.write(text.encode(encoding, "replace").decode(encoding))
        self._stdout.flush()

    def note(self, text: str) -> None:
        """Shows a line that is not the model's."""
        self.say(text + "\n")


def _number(text: str) -> float:
    """The number that a text is. Raises UsageError."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    raise UsageError(f"{text!r} is no number", hint="/set lists the settings.")


@contextmanager
def _ctrl_c_cancels() -> Iterator[threading.Event]:
    """While it is open, Ctrl-C sets the event instead of raising KeyboardInterrupt."""
    cancel = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield cancel  # only the main thread may take signals
        return
    before = signal.signal(signal.SIGINT, lambda *_: cancel.set())
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


def _cut(answer: Answer, context_tokens: int | None) -> AnswerCut | None:
    """What is to be said of an answer that does not keep to what it was held to, since it was cut."""
    if answer.finish not in ("length", "deadline"):
        return None
    more = "Shorten the prompt" if _fills(answer, context_tokens) else "Allow more with --max-tokens"
    return AnswerCut(
        f"the answer is incomplete: it was {_cut_where(answer, context_tokens)}",
        hint=f"{more}; a schema can bound its texts (maxLength) and lists (maxItems).",
    )


def _cut_where(answer: Answer, context_tokens: int | None) -> str:
    if _fills(answer, context_tokens):
        return f"cut: the context is full ({context_tokens} of {context_tokens} tokens)"
    return f"cut after {answer.usage.completion_tokens} tokens"


def _fills(answer: Answer, context_tokens: int | None) -> bool:
    used = answer.usage.prompt_tokens + answer.usage.completion_tokens
    return context_tokens is not None and used >= context_tokens


def _describe(answer: Answer, context_tokens: int | None) -> str:
    usage = answer.usage
    speed = usage.decode_tokens_per_s
    used = usage.prompt_tokens + usage.completion_tokens
    parts = [
        f"prompt {usage.prompt_tokens} tokens",
        f"answer {usage.completion_tokens} tokens",
        f"TTFT {usage.ttft_s * 1000:.0f} ms",
        f"{speed:.1f} tok/s" if speed else "speed unknown",
    ]
    if context_tokens:
        parts.append(f"context {used} of {context_tokens} tokens ({used / context_tokens:.0%})")
    return ", ".join(parts)
