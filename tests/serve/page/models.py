"""Models for the page to speak to, and what may stand before a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from starlette.responses import JSONResponse, PlainTextResponse

from edgeship.engine.api import AnswerSteps, Conversation, OnStep, Sampling, Token, ToolCall, Usage
from edgeship.engine.thinking import Marks
from edgeship.errors import EngineFailed
from edgeship.serve import ServeOptions, app
from edgeship.serve.bodies import Application, Receive, Scope, Send
from edgeship.serve.models import Pool
from tests.scripted import ScriptedEngine
from tests.serve.serving import card, scripted_app

HOSTILE = """<img src=x onerror="alert(1)"> <script>alert(2)</script> <b>bold</b>

[a](javascript:alert(3)) [b](data:text/html,<script>alert(4)</script>) ![c](http://example.org/x.png) <http://example.org/y>

| <img src=x onerror=alert(5)> | b |
|---|---|
| <svg onload=alert(6)> | [x](vbscript:x) |

```html
<script>alert(7)</script>
```
"""
RICH = """# Kettles

The **S-1** leaks at the *lid*, in `three` ways:

1. Replace the ring:
   - part `K-22`
2. See [the manual](https://example.org/manual).

```python
print("x" * 3)
```

| part | price |
|:-----|------:|
| ring | 3.00 |

> Unplug it."""
ANSWERS = {
    "hello": "Good day to you.",
    "think": "\x01I look at the **question**.\x02The answer is 42.",
    "hostile": HOSTILE,
    "rich": RICH,
    "long": "word " * 2000,
}


def scripted(**how: Any) -> FastAPI:
    """A server with the model "scripted", also called "alias", that answers ANSWERS and thinks between two bytes."""
    options = {"thought_marks": Marks(1, 2), "context_tokens": 20_000, **how}
    return scripted_app(ANSWERS, **options)


class Acting(ScriptedEngine):
    """Does what is asked by name: "call" calls a tool, and "break" breaks off with an error, the first time."""

    def __init__(self) -> None:
        super().__init__(ANSWERS)
        self._broken = False

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: Any = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        assert on_step
        last = conversation.messages[-1]
        if last["role"] == "tool":
            return _told([Token(1, f"It is {last['content']} there."), _end("stop")], on_step)
        if last["content"] == "call":
            call = ToolCall("call_1", "weather", '{"city": "Bonn"}')
            return _told([Token(1, "", tool_calls=(call,)), _end("tool_calls")], on_step)
        if last["content"] == "break" and not self._broken:
            self._broken = True
            return _told([Token(1, "Half an"), EngineFailed("it fell over")], on_step)
        return super().converse(conversation, sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step)


def acting() -> FastAPI:
    """A server with an Acting model."""
    return app.over(Pool([card("acting")], open_chat=lambda _: Acting()), ServeOptions())


class _Done:
    def __iter__(self) -> _Done:
        return self

    def __next__(self) -> Token:
        raise StopIteration

    def close(self) -> None: ...


def _told(steps: Sequence[Token | Exception], on_step: OnStep) -> AnswerSteps:
    for step in steps:
        on_step(step)
    return _Done()


def _end(finish: Any) -> Token:
    return Token(2, "", finish=finish, usage=Usage(10, 2, 0.1, 0.2))


def locked(inner: Application, key: str = "right") -> Application:
    """The same server for those who have the key; the page's own files are open."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        closed = scope["type"] == "http" and scope["path"].startswith(("/v1/", "/page/models/"))
        if closed and (b"authorization", f"Bearer {key}".encode()) not in scope["headers"]:
            refusal = JSONResponse({"error": {"message": "the key is not known"}}, status_code=401)
            await refusal(scope, receive, send)
        else:
            await inner(scope, receive, send)

    return outer


def measured(inner: Application) -> Application:
    """The same server with metrics that go up by ten tokens at each look."""
    looks = 0

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal looks
        if scope["type"] != "http" or scope["path"] != "/metrics":
            await inner(scope, receive, send)
            return
        looks += 1
        of = '{model_name="scripted"}'
        text = (
            f"# HELP edgeship_num_requests_running Answers.\nedgeship_num_requests_running{of} 3\n"
            f'edgeship_num_requests_running{{model_name="other"}} 5\nedgeship_num_requests_waiting{of} 1\n'
            f"edgeship_generation_tokens_total{of} {looks * 10}\n"
            f'edgeship_time_to_first_token_seconds_bucket{{model_name="scripted",le="0.1"}} {looks}\n'
            f'edgeship_time_to_first_token_seconds_bucket{{model_name="scripted",le="+Inf"}} {looks}\n'
        )
        await PlainTextResponse(text)(scope, receive, send)

    return outer
