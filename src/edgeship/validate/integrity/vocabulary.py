"""Whether a tokenizer gives back what it is given, and still makes all of its tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeship.package import tokenizer
from edgeship.package.tokenizer import Tokenizer
from edgeship.validate.integrity.looked_at import LookedAt, judged
from edgeship.validate.integrity.sample_texts import sample_texts
from edgeship.validate.subject import Effort
from edgeship.validate.verdict import Finding

if TYPE_CHECKING:
    from edgeship.validate.integrity import IntegrityBounds

# Tokens that no merge makes, by design: bytes and reserved ones, marks of tables, runs of blanks.
_WHOLE = re.compile(r"<.+>|\[.+\]|[\s\u2581]+", re.DOTALL)
# Tokenizers that were converted have every pair that makes a token as a merge; where more are missing, theirs has not.
_COMPLETE = 0.99
# Taken evenly of a large vocabulary. In those of models that are in use, one in a hundred thousand may be out of reach.
_SAMPLED, _OUT_OF_REACH = 5_000, 0.01
# To look at all pairs of a larger one takes seconds.
_SMALL = 50_000
_SHOWN, _QUICKLY = 3, 8


def findings(looked: LookedAt, bounds: IntegrityBounds, effort: Effort) -> Iterator[Finding]:
    """Of texts that go through, and of tokens that can be made."""
    loaded = looked.codec.tokenizer
    yield _round_trip(loaded, effort)
    document = tokenizer.read_document(looked.folder / tokenizer.FILE_NAME, looked.config.complaint)
    yield _tokens_are_made(document, loaded, bounds, effort)


# --- texts -----------------------------------------------------------------------------------------------------------


def _round_trip(loaded: Tokenizer, effort: Effort) -> Finding:
    """What comes back is the text, or one that the tokenizer's own rules of normalizing make the same of."""
    samples = sample_texts(1 if effort != "quick" else _QUICKLY)
    texts = {name: text for name, text in samples.items() if loaded.covers(text)}
    if not texts:
        told = f"Each of {len(samples)} texts has characters that the tokenizer does not know."
        return Finding("round-trip", "skipped", told)
    faults = []
    for name, text in texts.items():
        back = loaded.decode(loaded.encode(text, special=False), special=True)
        if back != text and loaded.normalized(back) != loaded.normalized(text):
            faults.append(f"The tokenizer makes {back[:40]!r} of {text[:40]!r} ({name})")
    unknown = len(samples) - len(texts)
    left_out = f" {unknown} others have characters that it does not know." if unknown else ""
    return judged("round-trip", faults, f"{len(texts)} texts come back from the tokenizer as they were.{left_out}")


# --- tokens ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Merges:
    """How a BPE model puts tokens together.

    vocab: those that are no added tokens. pairs: of parts that are merged.
    """

    vocab: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    prefix: str
    suffix: str

    @property
    def made(self) -> set[str]:
        """Tokens that some merge makes."""
        return {first + second.removeprefix(self.prefix) for first, second in self.pairs}

    def unmade(self) -> list[str]:
        """Tokens of more than one character that no merge makes, though it should."""
        made = self.made
        return sorted(token for token in self.vocab if token not in made and not self._is_single(token))

    def _is_single(self, token: str) -> bool:
        bare = token.removeprefix(self.prefix)
        bare = bare.removesuffix(self.suffix) if self.suffix else bare
        return len(bare) <= 1 or _WHOLE.fullmatch(token) is not None

    def missing(self) -> list[tuple[str, str]]:
        """Pairs that make a token and are no merge, where all but a few such pairs are; none for other tokenizers."""
        if len(self.pairs) < 1.05 * len(self.made) or self.prefix or self.suffix:
            return []
        cuts = ((token[:place], token[place:]) for token in self.vocab for place in range(1, len(token)))
        found = [pair for pair in cuts if pair[0] in self.vocab and pair[1] in self.vocab and pair not in self.pairs]
        return found if len(found) <= (1 - _COMPLETE) * len(self.pairs) else []


def merges_of(document: Mapping[str, Any]) -> Merges | None:
    """The merges of a tokenizer.json; None where its tokens are made in another way."""
    model = document.get("model") or {}
    if model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        return None
    added = {token["content"] for token in document.get("added_tokens") or ()}
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model.get("merges") or ())
    return Merges(
        frozenset(model["vocab"]) - added,
        frozenset((first, second) for first, second in pairs),
        model.get("continuing_subword_prefix") or "",
        model.get("end_of_word_suffix") or "",
    )


def _tokens_are_made(
    document: Mapping[str, Any], loaded: Tokenizer, bounds: IntegrityBounds, effort: Effort
) -> Finding:
    name, merges = "tokens-are-made", merges_of(document)
    if merges is None:
        return Finding(name, "skipped", "The tokenizer puts its tokens together in another way than by merges.")
    unmade = merges.unmade()
    if len(unmade) > bounds.max_unmade_tokens:
        lost = f"No merge makes {len(unmade)} of {len(merges.vocab):,} tokens, such as {_shown(unmade)}"
        told = f"{lost}: the tokenizer lost merges, and texts fall into other tokens than the model was trained with."
        return Finding(name, "fail", told, len(unmade), bounds.max_unmade_tokens)
    missing = merges.missing() if effort != "quick" or len(merges.vocab) <= _SMALL else []
    if missing:
        pairs = _shown([" + ".join(pair) for pair in missing])
        told = f"All pairs that make a token are merges but {len(missing)}, such as {pairs}: the tokenizer lost them."
        return Finding(name, "fail", told, len(missing), 0)
    unreached = [] if document["model"].get("ignore_merges") else _unreached(merges, loaded)
    if len(unreached) > _OUT_OF_REACH * min(_SAMPLED, len(merges.vocab)):
        told = (
            f"{len(unreached)} tokens, such as {_shown(unreached)}, are no longer what their own text becomes: "
            "the tokenizer's merges are in another order than they were learnt in."
        )
        return Finding(name, "fail", told, len(unreached))
    return Finding(
        name, "pass", f"Merges make all of {len(merges.vocab):,} tokens.", len(unmade), bounds.max_unmade_tokens
    )


def _unreached(merges: Merges, loaded: Tokenizer) -> list[str]:
    """Of tokens that merges make, taken evenly, those whose own text becomes several."""
    made = sorted(merges.made & merges.vocab)
    return [token for token in made[:: -(-len(made) // _SAMPLED) or 1] if loaded.pieces(token) != [token]]


def _shown(tokens: Sequence[str]) -> str:
    return ", ".join(map(repr, tokens[:_SHOWN]))
