"""How a chat template ends an answer."""

from __future__ import annotations

from dataclasses import dataclass

from edgeship.errors import TemplateInvalid
from edgeship.package import template
from edgeship.package.tokenizer import TokenizerFiles

_ANSWER = "theanswerofthemodel"


@dataclass(frozen=True)
class EndOfTurn:
    """text: what follows the last answer, blanks at its beginning left out. token: the added token that it begins with,
    None where it begins with none.
    """

    text: str
    token: int | None


def end_of_turn(tokenizer: TokenizerFiles, chat_template: str) -> EndOfTurn:
    """What the template writes right after an answer; nothing where it does not render: who needs it reports that."""
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = template.render(
            chat_template, turns, special_tokens=tokenizer.special_tokens, add_generation_prompt=False
        )
    except TemplateInvalid:
        return EndOfTurn("", None)
    after = text.rpartition(_ANSWER)[2].lstrip() if _ANSWER in text else ""
    ends = [token for token in tokenizer.ids if token and after.startswith(token)]
    return EndOfTurn(after, tokenizer.ids[max(ends, key=len)] if ends else None)
