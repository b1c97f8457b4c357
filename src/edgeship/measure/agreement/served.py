"""How likely a server finds the texts that a reference read: what can be told of its fidelity by its log-probabilities.

A server tells of each token how likely it was, and which was the likeliest. That is enough for the perplexity, the
probability of the right token and the agreement of the likeliest ones; KLD would take the whole distribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edgeship.engine.codec import Codec
from edgeship.engine.remote import RemoteChat
from edgeship.errors import ContextFull, NotSupported, PromptInvalid, RemoteFailed
from edgeship.measure.agreement.fidelity import Likelihood, NextTokens, summarise_likelihood
from edgeship.measure.agreement.reference import ReferenceText
from edgeship.progress import Progress

_HINT = "vLLM and `edgeship serve` tell them; compare a package's folder in the place of its server."


def likelihood(
    url: str, texts: Iterable[ReferenceText], codec: Codec, model: str | None, api_key: str | None, progress: Progress
) -> Likelihood:
    """How likely the server finds the texts. codec: the reference's, whose tokens the server must have too.

    Raises NotSupported for a server that tells no log-probabilities of prompts, or has other tokens; RemoteFailed.
    """
    with RemoteChat(url, model, api_key) as chat:
        found = []
        for number, text in enumerate(texts, 1):
            progress(f"ask {url}, text {number}", None)
            found.append(_scores(text, _told(chat, text.tokens), codec, url))
        return summarise_likelihood(found)


def _told(chat: RemoteChat, tokens: Sequence[int]) -> list[Any]:
    try:
        told = chat.prompt_logprobs(tokens)
    except ContextFull:
        raise
    except PromptInvalid as error:
        what = f"the server tells no log-probabilities of prompts: {error.what}"
        raise NotSupported(what, where=chat.url, hint=_HINT) from error
    if len(told) != len(tokens):
        raise NotSupported("the server tells no log-probabilities of prompts", where=chat.url, hint=_HINT)
    return told


def _scores(text: ReferenceText, told: Sequence[Any], codec: Codec, url: str) -> NextTokens:
    scored = list(zip(text.tokens, told, strict=True))[text.first_scored :]
    try:
        entries = [{int(token): (float(how["logprob"]), how) for token, how in each.items()} for _, each in scored]
        own = [each[token] for (token, _), each in zip(scored, entries, strict=True)]
        written = [str(how.get("decoded_token")) for _, how in own]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RemoteFailed("the server's log-probabilities of a prompt cannot be read", where=url) from error
    _require_same_tokens(codec, [token for token, _ in scored], written, url)
    likeliest = [max(each, key=lambda token: each[token][0]) for each in entries]
    return NextTokens(
        agrees=text.predictions.tokens[:, 0] == np.array(likeliest),
        reference_nll_nats=-text.predictions.next_log_probs,
        candidate_nll_nats=-np.array([logprob for logprob, _ in own]),
    )


def _require_same_tokens(codec: Codec, tokens: Sequence[int], written: Sequence[str], url: str) -> None:
    """That the server's tokens are the reference's, by how it writes them; parts of characters are left aside."""
    ours = [how.text for how in codec.spell(tokens)]
    whole = [
        pair for pair in zip(tokens, ours, written, strict=True) if "\N{REPLACEMENT CHARACTER}" not in pair[1] + pair[2]
    ]
    others = [(token, here, there) for token, here, there in whole if here.strip() != there.strip()]
    # Servers do not all write control tokens alike.
    if 2 * len(others) > len(whole):
        token, here, there = others[0]
        raise NotSupported(
            f"the server has another tokenizer: token {token} is {there!r} there and {here!r} here",
            where=url,
            hint="Compare packages and servers of one checkpoint.",
        )
