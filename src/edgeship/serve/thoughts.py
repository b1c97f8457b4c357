"""Variables of chat templates that requests give: above all the switch by which a model thinks, or does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeship.errors import RequestInvalid
from edgeship.package import template
from edgeship.serve.models import Opened

SWITCHES = ("enable_thinking", "thinking")
"""What templates call it: Qwen's, SmolLM's and others; Granite's and DeepSeek's."""
EFFORT = "reasoning_effort"
"""What templates call how much a model is to think."""
NONE = "none"
"""The level of no thoughts."""


def switch_of(chat_template: str | None) -> str | None:
    """The variable by which a template is told whether the model is to think; None where it has none."""
    names = template.asks_for(chat_template) if chat_template else ()
    return next((switch for switch in SWITCHES if switch in names), None)


def switched(opened: Opened, wanted: bool | None, param: str) -> dict[str, Any]:
    """The template's variables that let the model think, or not; none where nothing is wanted.

    A model that always thinks has no such variable: `Sampling.thinking_tokens` keeps it from that.
    param: the field of the request that says what is wanted. Raises RequestInvalid where the model has no such choice.
    """
    if wanted is None:
        return {}
    codec = opened.chat.codec
    if codec is None:
        said = "is asked through another server, which has no switch for what it thinks"
    elif switch := switch_of(codec.template):
        return {switch: wanted}
    elif wanted and not codec.thinks:
        said = "does not think before it answers"
    else:
        return {}
    raise RequestInvalid(f"{param}: {opened.card.id} {said}", param=param, hint="Leave it out.")


def effort(opened: Opened, level: str | None, param: str) -> dict[str, Any]:
    """The template's variables for how much the model thinks; none where no level is wanted.

    No thoughts are what any switch can do. Raises RequestInvalid for another level where the template has none.
    """
    if level is None:
        return {}
    chat_template = _template(opened)
    if chat_template and EFFORT in template.asks_for(chat_template):
        return {EFFORT: level}
    if level == NONE:
        return switched(opened, False, param)
    raise RequestInvalid(f"{param}: {opened.card.id} has no levels of thinking", param=param, hint="Leave it out.")


def require_none(wanted: object, param: str, *, continues: bool) -> None:
    """Raises RequestInvalid where a model is to think before it goes on with an answer that was begun."""
    if continues and wanted:
        raise RequestInvalid(
            f"{param}: an answer that goes on with the last message has no thoughts before it",
            param=param,
            hint="Leave it out, or let the last message be the user's.",
        )


def most_tokens(level: str | None) -> int | None:
    """How many tokens a model may think at a level; None for any number. See `Sampling.thinking_tokens`."""
    return 0 if level == NONE else None


def checked(opened: Opened, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The variables that a request gives the template. Raises RequestInvalid for one that it does not read."""
    chat_template = _template(opened)
    known = template.asks_for(chat_template) if chat_template else None
    stranger = next((name for name in given or () if known is not None and name not in known), None)
    if stranger is not None:
        param = f"chat_template_kwargs.{stranger}"
        raise RequestInvalid(f"{param}: the chat template of {opened.card.id} has no such variable", param=param)
    return dict(given or {})


def _template(opened: Opened) -> str | None:
    """The chat template; None where there is none here."""
    codec = opened.chat.codec
    return codec.template if codec else None
