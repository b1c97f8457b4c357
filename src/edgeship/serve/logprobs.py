"""How likely a model found its tokens, in OpenAI's words: one form for chats, and an older one for completions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from edgeship.engine.api import MOST_LOGPROBS, Logprob, Token
from edgeship.engine.codec import Codec, Spelling
from edgeship.errors import RequestInvalid
from edgeship.serve.server import Server

Scored = tuple[int, Logprob | None, int]
"""A token, how likely it was, which is None for the first of a text, and where it begins in that, in characters."""
Spelled = Mapping[int, Spelling]
"""How tokens are written, by their ids."""
NOTHING: Spelled = MappingProxyType({})


async def spell(server: Server, codec: Codec | None, steps: Iterable[Token], prompt: Iterable[int] = ()) -> Spelled:
    """How the tokens are written whose log-probabilities these steps tell, and the prompt's where they tell of those.

    Nothing where they tell none. A codec may have to ask another process, so it is asked in a thread.
    """
    telling = [step for step in steps if step.logprob or step.prompt_logprobs is not None]
    if codec is None or not telling:
        return NOTHING

    def asked() -> Spelled:
        read = prompt if any(step.prompt_logprobs is not None for step in telling) else ()
        wanted = list({*read, *(token for step in telling for token in _named_by(step))})
        return dict(zip(wanted, codec.spell(wanted), strict=True))

    return await server.in_thread(asked)


def _named_by(step: Token) -> Iterator[int]:
    """The tokens that a step names."""
    if step.id is not None:
        yield step.id
    for found in (step.logprob, *(step.prompt_logprobs or ())):
        yield from (token for token, _ in found.top) if found else ()


def check_top(count: int | None, param: str) -> None:
    """Raises RequestInvalid for more likeliest tokens than can be told."""
    if count is not None and not 0 <= count <= MOST_LOGPROBS:
        raise RequestInvalid(f"{param} is {count}; it must be from 0 to {MOST_LOGPROBS}", param=param)


def chat_logprobs(steps: Sequence[Token], spelled: Spelled) -> dict[str, Any]:
    """`logprobs` of a choice of chat completions: each token with its text, its bytes, and the likeliest ones."""
    content = [
        _entry(step.id, step.logprob.logprob, spelled)
        | {"top_logprobs": [_entry(token, logprob, spelled) for token, logprob in step.logprob.top]}
        for step in steps
        if step.id is not None and step.logprob is not None
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(scored: Iterable[Scored], spelled: Spelled, top: int) -> dict[str, Any]:
    """`logprobs` of a choice of completions. top: how many of the likeliest tokens are told."""
    found: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token, how, start in scored:
        found["tokens"].append(_key(spelled[token]))
        found["token_logprobs"].append(how and how.logprob)
        found["top_logprobs"].append(how and _likeliest(token, how, spelled, top))
        found["text_offset"].append(start)
    return found


def prompt_logprobs(tokens: Sequence[int], found: Sequence[Logprob], spelled: Spelled, top: int) -> list[Any]:
    """vLLM's own form: of each of the prompt's tokens but the first the likeliest ones and itself, by their ids.

    rank: from 1 for the likeliest; None where that is not known.
    """
    told: list[Any] = [None]
    for token, how in zip(tokens[1:], found, strict=False):
        ranked = [(one, logprob, rank) for rank, (one, logprob) in enumerate(how.top[:top], 1)]
        itself = [] if token in dict(how.top[:top]) else [(token, how.logprob, None)]
        told.append(
            {
                str(one): {"logprob": logprob, "rank": rank, "decoded_token": spelled[one].text}
                for one, logprob, rank in (*ranked, *itself)
            }
        )
    return told


def _entry(token: int, logprob: float, spelled: Spelled) -> dict[str, Any]:
    found = spelled[token]
    return {"token": found.text, "logprob": logprob, "bytes": None if found.special else list(found.in_bytes)}


def _likeliest(token: int, how: Logprob, spelled: Spelled, top: int) -> dict[str, float]:
    """The likeliest tokens, and the one that was taken. Of two that are written alike the likelier one counts."""
    found: dict[str, float] = {}
    for one, logprob in (*how.top[:top], (token, how.logprob)):
        key = _key(spelled[one])
        found[key] = max(logprob, found.get(key, logprob))
    return found


def _key(spelling: Spelling) -> str:
    """A token's text, or its bytes as OpenAI writes them where they are a part of a character."""
    whole = spelling.text.encode(errors="replace") == spelling.in_bytes
    return spelling.text if whole else "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelling.in_bytes)
