"""A chat template cut into parts, one for each kind of turn, for readers that know no templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeship.errors import TemplateInvalid
from edgeship.package.template import HINT, Message, render

CONTENT = "{Content}"


@dataclass(frozen=True)
class PromptParts:
    """A chat template as a text per turn, "{Content}" in the place of what is said.

    system: None where the template has no system turn of its own (Gemma, Mistral).
    prompt: the last user turn and the opening of the assistant's.
    opening: what stands before the first turn where the system has none: a BOS text, a default system turn.
    """

    system: str | None
    user: str
    assistant: str
    prompt: str
    opening: str = ""


@dataclass(frozen=True)
class NoParts:
    """A template that cannot be cut into parts, since its turns are not written one after another and all alike."""

    why: str


_ESCAPABLE = "a\n\"<b>\" & 'c'"
"""A text that a template may write otherwise: as JSON, or with escapes of XML."""


def derive_parts(template: str, special_tokens: Mapping[str, str]) -> PromptParts | NoParts:
    """The parts of a template, found by rendering conversations and cutting out the text around each turn.

    Raises TemplateInvalid for a template that does not render, or leaves out what the user says.
    """
    try:
        return _derive(template, special_tokens)
    except _NotLinear as error:
        return NoParts(str(error))


def _derive(template: str, special_tokens: Mapping[str, str]) -> PromptParts:

    def rendered(*turns: tuple[str, str], ask: bool = True) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        return render(template, messages, special_tokens=special_tokens, add_generation_prompt=ask)

    said = _sentinels(template)
    if said[0].lower() not in (text := rendered(("user", said[0]))).lower():
        raise TemplateInvalid(
            f"the chat template leaves out what the user says; it rendered {text!r}", where="chat template", hint=HINT
        )
    user, answer, again = ("user", said[0]), ("assistant", said[1]), ("user", said[2])
    whole = rendered(user, answer, again)
    head, middle, between, tail = _cut(whole, said[0], said[1], said[2])
    (user_end,) = _cut(rendered(user, ask=False), said[0])[1:]
    (assistant_end,) = _cut(rendered(user, answer, ask=False), said[0], said[1])[2:]

    user_suffix = _shared_start(user_end, middle)
    assistant_suffix = _shared_start(assistant_end, between)
    user_prefix = between[len(assistant_suffix) :]
    if not head.endswith(user_prefix):
        raise _not_linear(f"a later user turn opens with {user_prefix!r}", whole)
    parts = PromptParts(
        system=_system_part(rendered, said, user_prefix),
        user=user_prefix + CONTENT + user_suffix,
        assistant=middle[len(user_suffix) :] + CONTENT + assistant_suffix,
        prompt=user_prefix + CONTENT + tail,
        opening=head[: len(head) - len(user_prefix)],
    )
    _check_parts(parts, rendered, said)
    return parts


def assemble(parts: PromptParts, messages: Sequence[Message]) -> str:
    """The text that a reader of prompt parts makes of a conversation that ends with a user turn.

    Raises TemplateInvalid for a conversation that the parts cannot express.
    """
    if not messages or messages[-1]["role"] != "user":
        raise TemplateInvalid("prompt parts express only conversations that end with a user turn")
    by_role = {"system": parts.system, "user": parts.user, "assistant": parts.assistant}
    texts = [parts.opening if messages[0]["role"] != "system" else ""]
    for message in messages[:-1]:
        part = by_role.get(message["role"])
        if part is None:
            raise TemplateInvalid(f"the chat template has no turn for the role {message['role']!r}")
        texts.append(part.replace(CONTENT, message["content"], 1))
    texts.append(parts.prompt.replace(CONTENT, messages[-1]["content"], 1))
    return "".join(texts)


def _sentinels(template: str) -> tuple[str, str, str, str]:
    """Four texts that the template does not contain and that no part of it would trim or split."""
    stem = "Zq"
    while stem in template:
        stem += "q"
    return f"{stem}1x", f"{stem}2x", f"{stem}3x", f"{stem}4x"


def _cut(text: str, *said: str) -> list[str]:
    """The texts around what was said: len(said) + 1 of them. Each must stand there once, and in order."""
    pieces, rest = [], text
    for sentinel in said:
        before, found, rest = rest.partition(sentinel)
        if not found or any(other in before for other in said) or sentinel in rest:
            raise _not_linear("what was said does not stand in it once and in order", text)
        pieces.append(before)
    return [*pieces, rest]


def _shared_start(end: str, onward: str) -> str:
    """How a turn ends: what its end has in common with the way on to the next turn, no tag cut in two."""
    shared = end[: shared_length(end, onward)]
    if shared == end:
        return shared
    for opening, closing in ("<>", "[]"):
        last = shared.rfind(opening)
        if last > shared.rfind(closing):
            shared = shared[:last]
    return shared


def shared_length(first: Sequence[object], second: Sequence[object]) -> int:
    """How many items two sequences have in common at their beginning."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _system_part(rendered: Callable[..., str], said: Sequence[str], user_prefix: str) -> str | None:
    """None where the template refuses a system turn, leaves it out, or writes it into the user's turn."""
    try:
        text = rendered(("system", said[3]), ("user", said[0]))
    except TemplateInvalid:
        return None
    head = text.partition(said[0])[0]
    if head.count(said[3]) != 1 or not head.endswith(user_prefix):
        return None
    if head.find(said[3]) + len(said[3]) > len(head) - len(user_prefix):
        return None
    return head[: len(head) - len(user_prefix)].replace(said[3], CONTENT)


def _check_parts(parts: PromptParts, rendered: Callable[..., str], said: Sequence[str]) -> None:
    """Raises _NotLinear where the parts do not give back what they were cut from, or more turns."""
    turns = [("user", said[0]), ("assistant", said[1]), ("user", said[2]), ("assistant", _ESCAPABLE), ("user", "b")]
    conversations = [turns[:1], turns[:3], turns]
    if parts.system is not None:
        conversations += [[("system", said[3]), *conversation] for conversation in conversations]
    for conversation in conversations:
        text = rendered(*conversation)
        made = assemble(parts, [{"role": role, "content": content} for role, content in conversation])
        if made != text:
            raise _not_linear(f"its parts would give {made!r}", text)


class _NotLinear(Exception):
    """The turns do not stand one after another, each written the same way."""


def _not_linear(why: str, text: str) -> _NotLinear:
    return _NotLinear(f"{why}; it rendered {text!r}")
