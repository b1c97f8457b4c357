from __future__ import annotations

import io
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgeship.cli import chat as chat_module
from edgeship.cli.chat import answer_once, chat
from edgeship.engine.api import AnswerSteps, Constraint, Conversation, Message, Prompt, Sampling, Token, Usage
from edgeship.engine.remote import RemoteChat
from edgeship.engine.thinking import Marks
from edgeship.errors import EngineFailed, PromptInvalid, TemplateInvalid
from edgeship.package.conversation import with_instructions_in_first_question
from tests.chat_server import answers_of, models, serving
from tests.scripted import ScriptedEngine

ANSWERS = {"hello": "Good day.", "who?": "A \N{ROBOT FACE} I am.", "two\nlines": "Both read.", "/etc": "A path."}
GREEDY = Sampling()


class Spy(ScriptedEngine):
    """Remembers the conversations that it was given."""

    def __init__(self, **options: Any) -> None:
        super().__init__(ANSWERS, **options)
        self.asked: list[list[Message]] = []

    def render(self, conversation: Conversation) -> Prompt:
        self.asked.append(list(conversation.messages))
        return super().render(conversation)


class Screen(io.StringIO):
    """A terminal, as far as a stream can tell."""

    def isatty(self) -> bool:
        return True


def talk(engine: ScriptedEngine, *lines: str, system: str | None = None, sampling: Sampling = GREEDY) -> str:
    out = io.StringIO()
    assert chat(engine, sampling, system=system, stdin=io.StringIO("".join(f"{x}\n" for x in lines)), stdout=out) == 0
    return out.getvalue()


def test_answers_and_history() -> None:
    engine = Spy()
    said = talk(engine, "hello", "", "who?")
    assert "Good day.\nA \N{ROBOT FACE} I am.\n" in said
    assert [message["content"] for message in engine.asked[-1]] == ["hello", "Good day.", "who?"]


@pytest.mark.parametrize("word", ["/exit", "/bye", "  /exit  "])
def test_leaving(word: str) -> None:
    assert "Good day" not in talk(Spy(), word, "hello")


def test_reset_forgets_the_turns_and_keeps_the_system_message() -> None:
    engine = Spy()
    talk(engine, "hello", "/reset", "/stats", "who?", system="Be brief.")
    assert [message["content"] for message in engine.asked[-1]] == ["Be brief.", "who?"]


def test_system() -> None:
    engine = Spy()
    said = talk(engine, "/system", "/system Speak French.", "/system", "hello")
    assert "There are no instructions.\nThe instructions are set.\nSpeak French.\n" in said
    assert engine.asked[-1][0] == {"role": "system", "content": "Speak French."}


def test_a_template_without_a_system_role_keeps_the_chat_alive() -> None:
    class Refusing(Spy):
        def render(self, conversation: Conversation) -> Prompt:
            if conversation.messages[0]["role"] == "system":
                raise TemplateInvalid("no system role", hint="Leave it out.")
            return super().render(conversation)

    said = talk(Refusing(), "/system Speak French.", "hello")
    assert "no system role. Leave it out.\nGood day.\n" in said


def test_instructions_are_taken_back() -> None:
    engine = Spy()
    said = talk(engine, "/system Speak French.", "/system none", "/system", "hello")
    assert "There are no instructions any more.\nThere are no instructions.\n" in said
    assert [message["role"] for message in engine.asked[-1]] == ["user"]


class Joining(Spy):
    """A model without a system role."""

    def render(self, conversation: Conversation) -> Prompt:
        joined = with_instructions_in_first_question(conversation.messages)
        return super().render(replace(conversation, messages=joined))


def test_it_is_said_where_instructions_go_without_a_system_role() -> None:
    engine = Joining()
    said = talk(engine, "/system Be brief.", "hello", "who?")
    assert said.count("this model has no system role, so the instructions go before the first question") == 1
    assert engine.asked[-1][0] == {"role": "user", "content": "Be brief.\n\nhello"}


def test_settings_are_changed_by_set() -> None:
    said = talk(Spy(), "/set max_tokens 4", "hello", "/set parameter num_predict 100", "hello")
    assert "Good\nThe answer was cut after 4 tokens.\n" in said
    assert said.count("Good day.") == 1
    said = talk(Spy(), "/set top_p 7", "/set seed many", "/set", "/set system Be brief.", "/system")
    assert "top_p is 7" in said
    assert "'many' is no number" in said
    assert "temperature 0.0" in said
    assert said.endswith("Be brief.\n\n")


def test_stats() -> None:
    said = talk(Spy(), "/stats", "hello", "/stats")
    assert "There is no answer yet." in said
    # TURN user LF hello TURN assistant LF; the answer's bytes and END.
    assert "prompt 22 tokens, answer 10 tokens, TTFT " in said
    assert "context 32 of 4096 tokens (1%)" in said


def test_help_and_unknown_commands() -> None:
    said = talk(Spy(), "/help", "/frobnicate now")
    assert all(
        command in said for command in ("/system", "/reset", "/stats", "/exit", "/bye", "/clear", "/set", "/?", '"""')
    )
    assert "There is no command /frobnicate. /help lists those there are." in said


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        (['"""two', 'lines"""'], "two\nlines"),
        (['"""', "two", "lines", '"""'], "two\nlines"),
        (['"""/etc"""'], "/etc"),
    ],
)
def test_messages_of_several_lines(lines: list[str], asked: str) -> None:
    engine = Spy()
    assert ANSWERS[asked] in talk(engine, *lines)
    assert engine.asked[-1][-1]["content"] == asked


def test_an_empty_block_is_not_sent_and_an_open_one_ends_with_the_input() -> None:
    engine = Spy()
    talk(engine, '""""""', '"""never closed', "more")
    assert engine.asked == []


def test_a_full_context_is_explained_and_reset_helps() -> None:
    engine = Spy(context_tokens=40)
    said = talk(engine, "hello " * 10, "hello")
    assert "The context is full: the prompt has 76 tokens and the model takes at most 39." in said
    assert "Your message was not sent" in said
    assert said.count("Good day.") == 1


def test_the_oldest_turns_leave_a_full_context() -> None:
    engine = Spy(context_tokens=100)
    said = talk(engine, "hello", "hello", "hello", system="Go.")
    assert "[The context is full: the oldest question and its answer have left the conversation.]" in said
    assert [message["content"] for message in engine.asked[-1]] == ["Go.", "hello", "Good day.", "hello"]
    assert said.count("Good day.") == 3


def test_the_oldest_turns_leave_where_a_server_says_that_the_context_is_full() -> None:
    engine = Spy(context_tokens=100)
    with serving(answers_of(engine), models("small")) as server:
        out = io.StringIO()
        with RemoteChat(server.url, None, None) as remote:
            lines = io.StringIO("hello\nhello\nhello\nhello\n")
            assert chat(remote, Sampling(max_tokens=20), stdin=lines, stdout=out) == 0
    assert "the oldest question and its answer have left the conversation" in out.getvalue()
    assert out.getvalue().count("Good day.") == 4


def test_room_is_kept_for_an_answer_of_the_length_that_is_asked_for() -> None:
    said = talk(Spy(context_tokens=100), "hello", "hello", "hello", sampling=Sampling(max_tokens=2))
    assert "left the conversation" not in said


def test_an_answer_that_fills_the_context_is_kept_and_explained() -> None:
    said = talk(Spy(context_tokens=26), "hello")
    assert "Good\nThe answer was cut: the context is full (26 of 26 tokens).\n" in said


def test_an_answer_cut_by_max_tokens() -> None:
    assert "Good\nThe answer was cut after 4 tokens.\n" in talk(Spy(), "hello", sampling=Sampling(max_tokens=4))


@pytest.mark.parametrize("error", [EngineFailed("out of luck", hint="Try again."), PromptInvalid("out of luck")])
def test_an_engine_that_fails_does_not_end_the_chat(error: Exception) -> None:
    class Failing(Spy):
        def converse(self, conversation: Conversation, sampling: Sampling, **more: Any) -> AnswerSteps:
            if not self.asked:
                self.render(conversation)
                raise error
            return super().converse(conversation, sampling, **more)

    engine = Failing()
    said = talk(engine, "who?", "hello")
    assert "out of luck." in said
    assert "Good day." in said
    assert [message["content"] for message in engine.asked[-1]] == ["hello"]


def test_input_that_is_no_text_is_refused() -> None:
    engine = Spy()
    stdin = io.TextIOWrapper(io.BytesIO(b"\xff\xfe\nhello\n"), encoding="utf-8", errors="surrogateescape")
    out = io.StringIO()
    assert chat(engine, GREEDY, stdin=stdin, stdout=out) == 0
    assert "the text is not Unicode" in out.getvalue()
    assert "Good day." in out.getvalue()


def test_a_terminal_gets_prompts_and_no_control_characters() -> None:
    engine = ScriptedEngine({"hello": "\x1b[2Jred\x07\ttab\nline"})
    out = Screen()
    chat(engine, GREEDY, stdin=io.StringIO("hello\n"), stdout=out)
    assert ">>> \\u001b[2Jred\\u0007\ttab\nline\n>>> " in out.getvalue()


def test_a_stream_that_cannot_show_a_character_shows_another() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="cp1252", newline="\n")
    chat(Spy(), GREEDY, stdin=io.StringIO("who?\n"), stdout=out)
    assert b"A ? I am." in raw.getvalue()


# --- Ctrl-C ----------------------------------------------------------------------------------------


class Keys(io.StringIO):
    """Input in which a line of ^C is Ctrl-C at the prompt."""

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        line = super().readline(size)
        if line == "^C\n":
            raise KeyboardInterrupt
        return line


def test_ctrl_c_at_the_prompt_says_how_to_leave_and_twice_leaves() -> None:
    out = io.StringIO()
    assert chat(Spy(), GREEDY, stdin=Keys("^C\nhello\n^C\n^C\nwho?\n"), stdout=out) == 0
    assert out.getvalue().count("Ctrl-D or /exit leaves") == 2
    assert "Good day." in out.getvalue()
    assert "I am." not in out.getvalue()


class Interrupting(Spy):
    """Ctrl-C arrives after `after` tokens of the first answer."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after: int | None = after

    def converse(self, conversation: Conversation, sampling: Sampling, **more: Any) -> Generator[Token, None, None]:
        if self.after == 0:
            self._press()
        for count, token in enumerate(super().converse(conversation, sampling, **more), start=1):
            if count == self.after:
                self._press()
            yield token

    def _press(self) -> None:
        self.after = None
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said() -> None:
    before = signal.getsignal(signal.SIGINT)
    engine = Interrupting(after=4)
    said = talk(engine, "hello", "who?")
    assert "Good\nStopped.\n" in said
    assert [message["content"] for message in engine.asked[-1]] == ["hello", "Good", "who?"]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_the_first_word_forgets_the_message() -> None:
    engine = Interrupting(after=0)
    said = talk(engine, "hello", "who?")
    assert "Stopped before the first word; your message is forgotten." in said
    assert [message["content"] for message in engine.asked[-1]] == ["who?"]


def test_a_chat_outside_the_main_thread_works_without_signals() -> None:
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(talk(Spy(), "hello")))
    thread.start()
    thread.join()
    assert "Good day." in said[0]


# --- one answer ------------------------------------------------------------------------------------

SHOWN = '{"name": "we", "arguments": {}}'
HELLO = Conversation([{"role": "user", "content": "hello"}])


def test_one_answer_is_the_text_and_a_line_break() -> None:
    out, err = io.StringIO(), io.StringIO()
    assert answer_once(ScriptedEngine(ANSWERS), HELLO, GREEDY, stdout=out, stderr=err) == 0
    assert (out.getvalue(), err.getvalue()) == ("Good day.\n", "")


def test_usage_goes_to_stderr() -> None:
    out, err = io.StringIO(), io.StringIO()
    answer_once(ScriptedEngine(ANSWERS), HELLO, GREEDY, stats=True, stdout=out, stderr=err)
    assert out.getvalue() == "Good day.\n"
    assert err.getvalue().startswith("prompt 22 tokens, answer 10 tokens")


def test_one_answer_as_json() -> None:
    out = io.StringIO()
    assert answer_once(ScriptedEngine(ANSWERS), HELLO, GREEDY, as_json=True, stdout=out) == 0
    facts = json.loads(out.getvalue())
    assert (facts["answer"], facts["finish"]) == ("Good day.", "stop")
    assert facts["usage"].keys() == {field.name for field in fields(Usage)} | {"decode_tokens_per_s"}
    assert facts["usage"]["completion_tokens"] == 10


def test_calls_follow_the_text_of_an_answer_a_line_each() -> None:
    tools = [{"type": "function", "function": {"name": "we"}}]
    call = '<tool_call>\n{"name": "we", "arguments": {}}\n</tool_call>'
    for text, shown in ((f"Look. {call}\n{call}", f"Look.\n{SHOWN}\n{SHOWN}\n"), (call, f"{SHOWN}\n")):
        out = io.StringIO()
        asked = replace(HELLO, tools=tools)
        assert answer_once(ScriptedEngine({"hello": text}), asked, GREEDY, stdout=out) == 0
        assert out.getvalue() == shown


def test_an_interrupted_answer_says_so_by_its_exit_code() -> None:
    out = io.StringIO()
    assert answer_once(Interrupting(after=4), HELLO, GREEDY, stdout=out) == 130
    assert out.getvalue() == "Good\n"


def test_what_a_model_thinks_goes_to_a_terminal_and_not_into_what_is_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = Marks(ord("<"), ord(">"))
    for err, shown in ((Screen(), "\x1b[2mh\x1b[22m\x1b[2mm\x1b[22m"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", err)
        out = io.StringIO()
        engine = ScriptedEngine({"hello": "<hm>\nGood day."}, thought_marks=marks)
        assert answer_once(engine, HELLO, GREEDY, stdout=out) == 0
        assert (out.getvalue(), err.getvalue().replace("\x1b[2m\x1b[22m", "")) == ("Good day.\n", shown)
    out = io.StringIO()
    answer_once(
        ScriptedEngine({"hello": "<hm>Good day."}, thought_marks=marks), HELLO, GREEDY, as_json=True, stdout=out
    )
    facts = json.loads(out.getvalue())
    assert (facts["thinking"], facts["answer"]) == ("hm", "Good day.")


HELD = Sampling(constraint=Constraint("regex", "[A-Z][a-z. ]+"), max_tokens=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("context", "sampling", "why"),
    [
        (4096, HELD, "cut after 4 tokens"),
        (26, replace(HELD, max_tokens=None), "the context is full (26 of 26 tokens)"),
    ],
)
def test_an_answer_that_was_held_to_something_and_was_cut_says_so_by_its_exit_code(
    context: int, sampling: Sampling, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.StringIO()
    assert answer_once(ScriptedEngine(ANSWERS, context_tokens=context), HELLO, sampling, stdout=out) == 8
    error = capsys.readouterr().err
    assert (out.getvalue(), "error[answer-cut]" in error, why in error) == ("Good\n", True, True)
    out = io.StringIO()
    assert answer_once(ScriptedEngine(ANSWERS, context_tokens=context), HELLO, sampling, as_json=True, stdout=out) == 8
    facts = json.loads(out.getvalue())
    assert (facts["answer"], facts["finish"], facts["error"]["code"]) == ("Good", "length", "answer-cut")


@pytest.mark.slow
def test_an_answer_that_is_whole_or_free_is_not_called_cut(capsys: pytest.CaptureFixture[str]) -> None:
    whole = replace(HELD, max_tokens=None)
    assert answer_once(ScriptedEngine(ANSWERS), HELLO, whole, stdout=io.StringIO()) == 0
    assert answer_once(ScriptedEngine(ANSWERS), HELLO, Sampling(max_tokens=4), stdout=io.StringIO()) == 0
    assert capsys.readouterr().err == ""


def test_one_answer_raises_what_the_engine_raises() -> None:
    with pytest.raises(PromptInvalid, match="at most 4"):
        answer_once(ScriptedEngine(ANSWERS, context_tokens=5), HELLO, GREEDY, stdout=io.StringIO())


# --- a real terminal -------------------------------------------------------------------------------

CHILD = """
import sys
from edgeship.cli.chat import chat
from edgeship.engine.api import Sampling
from edgeship.package.conversation import with_instructions_in_first_question
from tests.chat_server import answers_of, models, serving
from tests.scripted import ScriptedEngine
slow = ScriptedEngine({"count": "one two three " * 2000, "hello": "Good day."}, context_tokens=10**6, delay_s=0.01)
sys.exit(chat(slow, Sampling()))
"""


class Terminal:
    """A child at the other end of a pseudo-terminal."""

    pid: int
    end: int
    seen: str

    def __init__(self, code: str) -> None:
        if sys.platform == "win32":
            pytest.skip("no pseudo-terminals")
        import pty

        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", code])
        self.seen = ""

    def until(self, text: str) -> None:
        """Reads until `text` has come since the last call."""
        deadline = time.monotonic() + 60
        while text not in self.seen:
            readable, _, _ = select.select([self.end], [], [], deadline - time.monotonic())
            assert readable, f"{text!r} did not come; what came is {self.seen!r}"
            self.seen += os.read(self.end, 65536).decode(errors="replace")
        self.seen = self.seen.split(text, 1)[1]

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def interrupt_prompt(self) -> None:
        """Ctrl-C at a prompt, once the child sleeps there.

        Python sees one that comes after readline shows its prompt and before it waits only with the next key: a second
        Ctrl-C, say.
        """
        while Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "S":
            time.sleep(0.001)
        self.type("\x03")

    def exit_code(self) -> int:
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return status

    def close(self) -> None:
        """Leaves no child behind, however a test ends."""
        if self.pid:
            psutil.Process(self.pid).kill()
            self.exit_code()
        os.close(self.end)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's pseudo-terminals")
def test_ctrl_c_in_a_real_terminal() -> None:
    with closing(Terminal(CHILD)) as terminal:
        terminal.until(">>> ")
        terminal.type("count\n")
        terminal.until("two three")
        terminal.type("\x03")
        terminal.until("Stopped.")
        terminal.until(">>> ")
        terminal.type("hello\n")
        terminal.until("Good day.")
        terminal.until(">>> ")
        terminal.interrupt_prompt()
        terminal.until("Ctrl-D or /exit leaves")
        terminal.until(">>> ")
        terminal.type("\x04")
        assert terminal.exit_code() == 0


def test_help_names_every_command() -> None:
    assert all(name in chat_module.HELP for name in chat_module._Session(Spy(), GREEDY, None, _terminal())._commands)


def _terminal() -> chat_module._Terminal:
    return chat_module._Terminal(io.StringIO(), io.StringIO())


@pytest.mark.parametrize("once", [True, False])
def test_the_templates_variables_go_with_every_question(once: bool) -> None:
    class Noting(ScriptedEngine):
        def render(self, conversation: Conversation) -> Prompt:
            seen.append(dict(conversation.variables))
            return super().render(conversation)

    seen: list[dict[str, Any]] = []
    if once:
        answer_once(Noting(ANSWERS), replace(HELLO, variables={"a": 1}), GREEDY, stdout=io.StringIO())
    else:
        chat(Noting(ANSWERS), GREEDY, variables={"a": 1}, stdin=io.StringIO("hello\n"), stdout=io.StringIO())
    assert seen
    assert all(variables == {"a": 1} for variables in seen)
