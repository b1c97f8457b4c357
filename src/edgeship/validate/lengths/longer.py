"""What is asked in long prompts: cases of the evaluation after text that says nothing, and facts within such text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from edgeship.engine.api import Chat
from edgeship.errors import EdgeshipError
from edgeship.measure.cases.evalset import EvalCase, EvalMessage
from edgeship.validate.subject import UNKNOWN_CONTEXT_TOKENS, Effort

OWN = "at their own length"
_FILLERS = (
    "The weather is fine today.",
    "A train leaves the station every hour.",
    "The garden has roses and old trees.",
)
_FACTS = (("red box", "4729"), ("blue door", "8316"), ("green car", "5082"))
_PLACES = {"early": 0.1, "in the middle": 0.5, "late": 0.9}
_ROOM_TOKENS = 192
_TOKENS_A_FILLER = 8
"""Where nobody counts them: no tokenizer makes fewer words of these than one a word, few make more."""


@dataclass(frozen=True)
class Amount:
    """How much is asked.

    cases: at each length. parts: of the context that prompts fill. facts: at each place and length. spend_s: for cases,
    and for facts again; what is not answered then is left out.
    """

    cases: int
    parts: tuple[float, ...]
    facts: int
    spend_s: float


ALONE: dict[Effort, Amount] = {
    "quick": Amount(3, (0.1,), 1, 0.5),
    "default": Amount(8, (0.05, 0.2, 0.8), 3, 3.0),
    "long": Amount(48, (0.05, 0.1, 0.2, 0.4, 0.8), 3, 900.0),
}
BESIDE: dict[Effort, Amount] = {
    "default": Amount(28, (0.05, 0.2, 0.8), 9, 15.0),
    "long": Amount(96, (0.05, 0.1, 0.2, 0.4, 0.8), 9, 900.0),
}
"""Where an original is asked the same. To show that no more than 10 % are lost takes 25 cases of which none is: a quick
look has no time for them."""


@dataclass(frozen=True)
class Asked:
    """A case at a length, or with a fact at a place. group: which of the rates it counts for. of: the case it is of."""

    group: str
    case: EvalCase
    of: str


def padded(chat: Chat, cases: Sequence[EvalCase], amount: Amount) -> list[Asked]:
    """Cases that are spread over the evaluation, each at its own length and at longer ones."""
    context = _context(chat)
    fit = [case for case in cases if case.messages[-1].role == "user" and _tokens(chat, case) + _ROOM_TOKENS < context]
    chosen = fit[:: max(1, len(fit) // amount.cases)][: amount.cases]
    found = []
    for case in chosen:
        found.append(Asked(OWN, case, case.id))
        own = _tokens(chat, case)
        for part in amount.parts:
            if (room := min(round(part * context), context - _ROOM_TOKENS) - own) > 0:
                longer = _longer(chat, case, room, part)
                found.append(Asked(f"at {part * context:,.0f} tokens", longer, case.id))
    # All of one length after the other: what there is no time for are the longest ones.
    order = {OWN: 0.0} | {f"at {part * context:,.0f} tokens": part for part in amount.parts}
    return sorted(found, key=lambda each: order[each.group])


def _longer(chat: Chat, case: EvalCase, tokens: int, part: float) -> EvalCase:
    """The case with text before its question that says nothing."""
    filler = f"{_fill(chat, _FILLERS[0], tokens)} "
    last = case.messages[-1]
    messages = (*case.messages[:-1], last.model_copy(update={"content": filler + last.content}))
    return case.model_copy(update={"messages": messages, "id": f"{case.id}-{part:g}"})


def facts(chat: Chat, amount: Amount) -> list[Asked]:
    """Questions for a fact that stands early, in the middle or late in a text; the shortest texts first."""
    context, found = _context(chat), []
    for part, number in product(amount.parts, range(amount.facts)):
        thing, code = _FACTS[number % len(_FACTS)]
        filler = _FILLERS[(number + number // len(_FACTS)) % len(_FILLERS)]
        tokens = max(0, min(round(part * context), context - _ROOM_TOKENS) - _ROOM_TOKENS // 2)
        for place, share in _PLACES.items():
            before = _fill(chat, filler, round(tokens * share))
            after = _fill(chat, filler, round(tokens * (1 - share)))
            text = f"{before} The number of the {thing} is {code}. {after} What is the number of the {thing}?"
            message = EvalMessage(role="user", content=text.strip())
            name = f"fact-{place.split()[-1]}-{part:g}-{number + 1}"
            case = EvalCase(id=name, messages=(message,), expected=code, match="contains")
            found.append(Asked(place, case, name))
    return found


def _fill(chat: Chat, filler: str, tokens: int) -> str:
    """A text of at most so many tokens that says the same again and again."""
    each = len(chat.codec.encode(f" {filler}", special=False).tokens) if chat.codec else _TOKENS_A_FILLER
    return " ".join([filler] * (tokens // max(1, each)))


def _tokens(chat: Chat, case: EvalCase) -> int:
    """Of its prompt; never less than it has where nobody counts."""
    try:
        return len(chat.codec.render(case.asked).tokens) if chat.codec else len(str(case.conversation).encode())
    except EdgeshipError:
        return _context(chat)


def _context(chat: Chat) -> int:
    return chat.context_tokens or UNKNOWN_CONTEXT_TOKENS
