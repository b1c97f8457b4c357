"""Models for the page to speak to."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import FastAPI

from edgeship.engine.api import AnswerSteps, Conversation, OnStep, Sampling, Token
from edgeship.engine.thinking import Marks
from edgeship.errors import EngineFailed
from edgeship.serve import ServeOptions, app
from edgeship.serve.models import Pool
from edgeship.settings import resolve
from tests.scripted import Made, ScriptedEngine
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


def scripted(options: ServeOptions | None = None, **how: Any) -> FastAPI:
    """A server with the model "scripted", also called "alias", that answers ANSWERS and thinks between two bytes."""
    engine = {"thought_marks": Marks(1, 2), "context_tokens": 20_000, **how}
    return scripted_app(ANSWERS, options, **engine)


class Breaking(ScriptedEngine):
    """Breaks off with an error in the middle of its first answer."""

    def __init__(self) -> None:
        super().__init__(ANSWERS)
        self._broken = False

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
        if self._broken:
            return super().converse(conversation, sampling, cancel=cancel, deadline_s=deadline_s, on_step=on_step)
        assert on_step
        self._broken = True
        on_step(Token(1, "Half an"))
        on_step(EngineFailed("it fell over"))
        return Made()


def breaking() -> FastAPI:
    """A server with a Breaking model."""
    pool = Pool([card("breaking")], settings=resolve(), open_chat=lambda _: Breaking())
    return app.over(pool, ServeOptions())
