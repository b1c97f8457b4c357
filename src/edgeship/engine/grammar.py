"""Answers held to a JSON schema, a regular expression or a grammar, by llguidance."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeship.engine.api import Constraint
from edgeship.errors import ConstraintInvalid, DependencyMissing, EngineFailed

# Compiled constraints that are kept: the same schema comes with every request.
_KEPT = 32
# Between the parts of JSON: nothing, a blank, or a line break with an indent. A model that likes blanks too much could
# otherwise go on with them to the end.
WHITE_SPACE = r"( |\n[ \t]{0,24})?"


class Grammars:
    """Constraints for one vocabulary; the library is loaded with the first of them.

    tokenizer: a tokenizer.json, or the bytes of each token. vocab_size: of the logits; ids that the tokenizer does not
    have are never allowed. Any thread may ask for a matcher.
    """

    def __init__(
        self,
        tokenizer: Path | Sequence[bytes],
        vocab_size: int,
        end_ids: Collection[int],
        special_ids: Collection[int] = (),
    ) -> None:
        self._source = tokenizer
        self._vocab_size = vocab_size
        self._end_ids = sorted(end_ids)
        self._special_ids = list(special_ids)
        self._tokenizer: Any = None
        self._compiled: OrderedDict[Constraint, Any] = OrderedDict()
        self._lock = threading.Lock()

    def matcher(self, constraint: Constraint) -> Matcher:
        """Holds one answer to `constraint`. Raises ConstraintInvalid, DependencyMissing."""
        with self._lock:
            compiled = self._compiled.get(constraint)
            if compiled is None:
                compiled = self._compile(constraint)
                self._compiled[constraint] = compiled
                if len(self._compiled) > _KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(constraint)
            return Matcher(compiled.deep_copy(), self._vocab_size)

    def _compile(self, constraint: Constraint) -> Any:
        library = _library()
        if self._tokenizer is None:
            self._tokenizer = self._load(library)
        grammar = _grammar(library.LLMatcher, constraint)
        matcher = library.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise _invalid(constraint, str(matcher.get_error()))
        return matcher

    def _load(self, library: Any) -> Any:
        if not self._end_ids:
            raise EngineFailed("the package names no token that ends an answer, so none can be held to a constraint")
        if isinstance(self._source, Path):
            source: Any = self._source.read_text(encoding="utf-8")
            # The library's vocabulary is at least the tokenizer's; what the logits lack is cut off in `allowed`.
            size = max(self._vocab_size, _tokens_in(source))
        else:
            source, size = library.TokenizerWrapper(_Bytes(self._source, self._end_ids[0], self._special_ids)), None
        try:
            return library.LLTokenizer(source, n_vocab=size, eos_token=self._end_ids)
        except Exception as error:  # the library raises what its Rust side makes
            raise EngineFailed(
                f"llguidance cannot use this tokenizer: {error}",
                where=str(self._source) if isinstance(self._source, Path) else None,
                hint="Ask without a constraint.",
            ) from error


class Matcher:
    """Where one answer stands in its constraint. For one thread."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._words: npt.NDArray[np.int32] | None = None

    @property
    def complete(self) -> bool:
        """Nothing can follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> npt.NDArray[np.bool_]:
        """bool [vocab_size]: what the next token may be. End tokens are among them where the answer may end."""
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        if self._words is None:
            self._words = allocate_token_bitmask(1, self._vocab_size)
        fill_next_token_bitmask(self._matcher, self._words, 0)
        self._check()
        bits = np.unpackbits(self._words[0].view(np.uint8), count=self._vocab_size, bitorder="little")
        return bits.view(np.bool_)

    def push(self, token: int) -> None:
        """The answer goes on. Raises EngineFailed for a token that was not allowed."""
        self._matcher.consume_token(token)
        self._check()

    def forced(self) -> list[int]:
        """Tokens about which there is no choice now."""
        if self._matcher.is_stopped():
            return []
        return [int(token) for token in self._matcher.compute_ff_tokens()]

    def _check(self) -> None:
        if self._matcher.is_error():
            raise EngineFailed(f"the constraint cannot be followed any further: {self._matcher.get_error()}")


class _Bytes:
    """Tokens by their bytes, as the library asks for a tokenizer."""

    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes], end_id: int, special_ids: Sequence[int]) -> None:
        self.tokens = list(tokens)
        self.eos_token_id = end_id
        self.special_token_ids = list(special_ids)
        self._ids = {token: index for index, token in enumerate(tokens)}

    def __call__(self, text: bytes | str) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        return [self._ids[bytes([byte])] for byte in data]


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise DependencyMissing(
            f"llguidance cannot be imported: {error}", hint="pip install --force-reinstall llguidance"
        ) from error
    return llguidance


def _grammar(matcher: Any, constraint: Constraint) -> str:
    if constraint.kind == "regex":
        return str(matcher.grammar_from_regex(constraint.text))
    if constraint.kind == "lark":
        return str(matcher.grammar_from_lark(constraint.text))
    schema = '{"type": "object"}' if constraint.kind == "json_object" else constraint.text
    try:
        parsed = json.loads(schema)
        return str(
            matcher.grammar_from_json_schema(
                json.dumps(parsed), overrides={"whitespace_flexible": True, "whitespace_pattern": WHITE_SPACE}
            )
        )
    except ValueError as error:
        raise _invalid(constraint, f"the schema is no JSON: {error}") from error


def _invalid(constraint: Constraint, why: str) -> ConstraintInvalid:
    return ConstraintInvalid(
        f"the {constraint.kind.replace('_', ' ')} cannot be used: {why.strip()}",
        hint="Mend it, or ask without a constraint.",
    )


def _tokens_in(tokenizer: str) -> int:
    parsed = json.loads(tokenizer)
    ids = [*(parsed["model"].get("vocab") or {}).values()] if isinstance(parsed["model"].get("vocab"), dict) else []
    ids += [token["id"] for token in parsed.get("added_tokens", [])]
    return max((token for token in ids if isinstance(token, int)), default=-1) + 1
