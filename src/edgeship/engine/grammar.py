"""Answers held to a JSON schema, a regular expression or a grammar, by llguidance."""

from __future__ import annotations

import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeship.engine import json_schema
from edgeship.engine.api import Constraint
from edgeship.engine.endings import Enders, Ending, vocabulary
from edgeship.errors import ConstraintInvalid, DependencyMissing, EngineFailed
from edgeship.system import border, foreign

_Some = TypeVar("_Some")
# Compiled constraints that are kept: the same schema comes with every request.
_KEPT = 32
# How JSON is laid out: (after an item, after a key). What an answer begins with settles it, so that all the rest of the
# layout is forced. Models were taught one of them, and a layout that they do not know makes them worse.
JSON_LAYOUTS = ((", ", ": "), (",", ":"))
# For what begins otherwise: between any two parts nothing, a blank, or a line break with an indent. A model that likes
# blanks too much could otherwise go on with them to the end.
INDENTED = r" |\r?\n[ \t]{0,40}"
# An answer of so many bytes has shown whether anything stands between its first bracket and what follows.
_SETTLED_BYTES = 2
# The library reads a constraint by recursion, and a stack that overflows ends the process. A text of this length filled
# 100 MB at most.
_MOST_CHARACTERS = 1 << 18
# All of a text that is forced is read again in every step, and no thread runs meanwhile: 50 ms for one of this length.
_MOST_TEXT_CHARACTERS = 20_000
_STACK_BYTES = 1 << 28
# What is compiled for longer is given up: whoever asked waits, and nobody else.
_COMPILE_S = 30.0
# How much work a single step may be, in the library's units: the engine's thread does nothing else for 0.3 s at most.
_STEP_FUEL = 100_000
# Where a large object is begun, at once or in a list, the library may find that more may follow than it keeps.
_OPENINGS = ("", "{", "[{")
# What the library says without words, or in words for its own authors.
_IN_WORDS = {
    "NoExtensionBias": "nothing fits it, since a reference or a rule in it leads only to itself",
    "Current row has": "too much may follow in one place: name fewer optional properties or alternatives there, "
    "or require some of them",
    "Too many items": "it is too much work, or leads back to itself without an end",
}
# With every added token the library reads all those before it again: 3 s for so many, in which no other thread runs.
_MOST_ADDED_TOKENS = 1 << 15


@dataclass(frozen=True)
class Written:
    """A constraint that was written here, in Lark's notation: once for each of `layouts`, or only once.

    kind: what errors call it. is_json: all that it allows is written like JSON, but for marks.
    ends: the marks by which a text ends in what is not.
    """

    kind: str
    texts: tuple[str, ...]
    is_json: bool = True
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Either:
    """One constraint or the other."""

    one: Constraint
    other: Written

    @property
    def kind(self) -> str:
        """What errors call it."""
        return self.one.kind


Held = Constraint | Written | Either


class Grammars:
    """Constraints for one vocabulary; the library is loaded with the first of them.

    tokenizer: a tokenizer.json, or the bytes of each token. vocab_size: of the logits; ids that the tokenizer does not
    have are never allowed. space_first: an answer may begin with one space more, which is not shown.
    Any thread may ask for a matcher.
    """

    def __init__(
        self,
        tokenizer: Path | Sequence[bytes],
        vocab_size: int,
        end_ids: Collection[int],
        special_ids: Collection[int] = (),
        *,
        space_first: bool = False,
    ) -> None:
        self._where = str(tokenizer) if isinstance(tokenizer, Path) else None
        self._source: Path | str | Sequence[bytes] = tokenizer
        if isinstance(tokenizer, Path):
            # Now, since the package may be removed while the engine runs; who wants a constraint is told of a failure.
            with suppress(OSError, ValueError):
                self._source = foreign.read_text(tokenizer)
        self._vocab_size = vocab_size
        self._end_ids = sorted(end_ids)
        self._special_ids = list(special_ids)
        self._space_first = space_first
        self._tokenizer: Any = None
        self._enders: Enders
        self._compiled: OrderedDict[Held, list[Any]] = OrderedDict()
        self._lock, self._load_lock = threading.Lock(), threading.Lock()

    def matcher(self, constraint: Held) -> Matcher:
        """Holds one answer to `constraint`. Raises ConstraintInvalid, DependencyMissing, EngineFailed."""
        with self._lock:
            compiled = self._compiled.get(constraint)
        if compiled is None:
            compiled = self._compile_in_time(constraint)
        with self._lock:
            self._compiled[constraint] = compiled
            self._compiled.move_to_end(constraint)
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
        layouts = [layout.deep_copy() for layout in compiled]
        return Matcher(layouts, self._tokenizer, self._vocab_size, self._ending(constraint))

    def _ending(self, constraint: Held) -> Ending:
        calls = constraint.other if isinstance(constraint, Either) else constraint
        written = calls if isinstance(calls, Written) else None
        is_json = constraint.kind not in ("regex", "lark") and (written is None or written.is_json)
        return Ending(self._enders, is_json=is_json, marks=written.ends if written else ())

    def _compile_in_time(self, constraint: Held) -> list[Any]:
        return _in_time(constraint, lambda: self._compile(constraint))

    def _compile(self, constraint: Held) -> list[Any]:
        library = _library()
        with self._load_lock:
            if self._tokenizer is None:
                tokenizer = self._load(library)
                with border.as_ours(self._unusable):
                    self._enders = Enders(vocabulary(tokenizer, self._vocab_size), self._end_ids)
                self._tokenizer, self._source = tokenizer, ""  # tens of megabytes, of no more use
        limits = library.LLParserLimits(step_lexer_fuel=_STEP_FUEL)
        compiled = []
        grammars = _grammars(library.LLMatcher, constraint)
        for grammar in map(_after_a_space, grammars) if self._space_first else grammars:
            with border.as_ours(lambda said: _invalid(constraint, said)):
                matcher = library.LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
                begun = [self._begin(matcher.deep_copy(), opening) for opening in _OPENINGS]
            for layout in begun:
                if layout.is_error():
                    raise _invalid(constraint, _reason(layout))
            compiled.append(matcher)
        return compiled

    def _begin(self, layout: Any, opening: str) -> Any:
        """An answer that begins so, where one may, and goes on to its first choice: steps that are large show there."""
        layout.try_consume_tokens(self._tokenizer.tokenize_str(opening))
        layout.try_consume_tokens(layout.compute_ff_tokens())
        layout.compute_bitmask()
        return layout

    def _load(self, library: Any) -> Any:
        with border.as_ours(self._unusable):
            source = foreign.read_text(self._source) if isinstance(self._source, Path) else self._source
            tokens = _tokens_in(source) if isinstance(source, str) else len(source)
            # Packages name end tokens that their tokenizer does not have.
            ends = [end for end in self._end_ids if 0 <= end < tokens]
            if not ends:
                raise ValueError("it has no token that ends an answer")
            if isinstance(source, str):
                # The library's vocabulary is at least the tokenizer's; what the logits lack is cut off in `allowed`.
                return library.LLTokenizer(source, n_vocab=max(self._vocab_size, tokens), eos_token=ends)
            wrapped = library.TokenizerWrapper(_Bytes(source, ends[0], self._special_ids))
            return library.LLTokenizer(wrapped, eos_token=ends)

    def _unusable(self, why: str) -> EngineFailed:
        return EngineFailed(
            f"no answer can be held to a constraint with this tokenizer: {why}",
            where=self._where,
            hint="Ask without a constraint.",
        )


class Matcher:
    """Where one answer stands in its constraint. For one thread."""

    def __init__(self, layouts: list[Any], tokenizer: Any, vocab_size: int, ending: Ending) -> None:
        # Those that the answer keeps to so far. The last one also takes what the others do, and is for the rest.
        self._layouts = layouts
        self._rest = layouts[-1]
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._ending = ending
        self._bytes = 0

    @property
    def complete(self) -> bool:
        """Nothing can follow."""
        return all(layout.is_stopped() for layout in self._layouts)

    def allowed(self, likeliest: int | None = None) -> npt.NDArray[np.bool_]:
        """bool [vocab_size]: what the next token may be. End tokens are among them where the answer may end.

        likeliest: the token that the model would say; see Ending.
        Raises ConstraintInvalid where the constraint turns out too complex.
        """
        with _following():
            masks = [np.frombuffer(layout.compute_bitmask(), np.uint8) for layout in self._layouts]
        for layout in self._layouts:
            _check(layout)
        mask = masks[0] if len(masks) == 1 else np.bitwise_or.reduce(masks)
        allowed = np.unpackbits(mask, count=self._vocab_size, bitorder="little").view(np.bool_)
        return self._ending.narrow(allowed, likeliest)

    def push(self, token: int) -> None:
        """The answer goes on. Raises EngineFailed for a token that was not allowed, ConstraintInvalid as `allowed`."""
        with _following():
            self._push(token, self._tokenizer.decode_bytes([token]))

    def _push(self, token: int, said: bytes) -> None:
        self._ending.push(said)
        if len(self._layouts) > 1:
            going = [layout for layout in self._layouts if layout.try_consume_tokens([token])]
            self._bytes += len(said if self._bytes else said.lstrip(b" "))
            if len(going) > 1 and going[-1] is self._rest and self._bytes >= _SETTLED_BYTES:
                going.pop()
            if going:
                self._layouts = going
                return
        layout = self._layouts[0]
        if not layout.try_consume_tokens([token]):
            _check(layout)
            # Takes an end token after the end, and says what is wrong with any other.
            layout.consume_token(token)
            if layout.is_error():
                raise EngineFailed(f"the constraint does not allow token {token}: {_reason(layout)}")

    def follow(self, said: str) -> bool:
        """Whether the answer may begin with this text, which has been said; where not, nothing is changed."""
        tokens = self._tokenizer.tokenize_str(said)
        copies = [layout.deep_copy() for layout in self._layouts]
        with _following():
            going = [copy for copy in copies if copy.try_consume_tokens(tokens) == len(tokens)]
        if not going:
            return False
        self._layouts, self._rest = going, copies[-1]
        self._ending.push(said.encode())
        self._bytes = len(said.encode().lstrip())
        return True

    def forced(self) -> list[int]:
        """Tokens about which there is no choice now, as the tokenizer itself would make them."""
        if any(layout.is_stopped() for layout in self._layouts):
            return []
        with _following():
            return _common([layout.compute_ff_tokens() for layout in self._layouts])


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


def require_usable(constraint: Constraint) -> None:
    """That answers can be held to it, before a model is opened. Raises ConstraintInvalid, DependencyMissing.

    What only the model's own tokenizer makes impossible or too much work is refused once that is known.
    """
    if constraint.kind == "lark":  # it may name tokens of the model's
        _in_time(constraint, lambda: _require_written(constraint))
        return
    end = 256
    Grammars([*(bytes([byte]) for byte in range(end)), b"<end>"], end + 1, [end], [end]).matcher(constraint)


def _require_written(constraint: Constraint) -> None:
    matcher = _library().LLMatcher
    for grammar in _grammars(matcher, constraint):
        with border.as_ours(lambda said: _invalid(constraint, said)):
            why = matcher.validate_grammar(grammar)
        if why:
            raise _invalid(constraint, why)


def _in_time(constraint: Held, read: Callable[[], _Some]) -> _Some:
    try:
        return border.within(_COMPILE_S, read, stack_bytes=_STACK_BYTES)
    except border.TookTooLong as error:
        raise _invalid(constraint, f"it takes longer than {_COMPILE_S:.0f} s to be read") from error


def lark(grammar: str) -> str:
    """A grammar in Lark's notation, as it is or made of llama.cpp's GBNF. Raises ConstraintInvalid."""
    if "::=" not in grammar:
        return grammar
    _library()
    from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

    try:
        return str(any_to_lark(grammar))
    except (GbnfToLarkError, ValueError, RecursionError) as error:
        raise _invalid(Constraint("lark"), f"it looks like GBNF, and cannot be read as such: {error}") from error


def regex(pattern: str) -> str:
    """A regular expression of JSON Schema as it stands in Lark's notation. Raises ValueError."""
    return str(_library().regex_to_lark(pattern, "dw"))


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise DependencyMissing(
            f"llguidance cannot be imported: {error}", hint="pip install --force-reinstall llguidance"
        ) from error
    return llguidance


def _grammars(matcher: Any, constraint: Held) -> list[str]:
    """The constraint as the library wants it: JSON in each layout."""
    if isinstance(constraint, Either):
        ones, others = _grammars(matcher, constraint.one), _grammars(matcher, constraint.other)
        number = max(len(ones), len(others))
        pairs = itertools.islice(zip(itertools.cycle(ones), itertools.cycle(others), strict=False), number)
        return [_either(one, other) for one, other in pairs]
    if isinstance(constraint, Written):
        with border.as_ours(lambda said: _invalid(constraint, said)):
            return [str(matcher.grammar_from_lark(text)) for text in constraint.texts]
    most = _MOST_TEXT_CHARACTERS if constraint.kind == "regex" else _MOST_CHARACTERS
    if len(constraint.text) > most:
        raise _invalid(constraint, f"it is longer than {most} characters")
    with border.as_ours(lambda said: _invalid(constraint, said)):
        if constraint.kind == "regex":
            return [str(matcher.grammar_from_regex(constraint.text))]
        if constraint.kind == "lark":
            _check_texts(constraint, constraint.text.splitlines())
            return [str(matcher.grammar_from_lark(constraint.text))]
        schema = {"type": "object"} if constraint.kind == "json_object" else kept_schema(constraint)
        options = {"lenient": constraint.lenient}
        text = json.dumps(schema)
        return [str(matcher.grammar_from_json_schema(text, defaults=options | layout)) for layout in layouts()]


def kept_schema(constraint: Constraint) -> dict[str, Any]:
    """What of a constraint's schema is enforced. Raises ConstraintInvalid."""
    if len(constraint.text) > _MOST_CHARACTERS:
        raise _invalid(constraint, f"it is longer than {_MOST_CHARACTERS} characters")
    schema = json_schema.kept(constraint)
    _check_texts(constraint, _texts(schema))
    return schema


def _texts(schema: Any) -> Iterator[str]:
    """All texts in a schema, whatever they are for."""
    left = [schema]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list):
            left += value


def _check_texts(constraint: Constraint, texts: Iterable[str]) -> None:
    if any(len(text) > _MOST_TEXT_CHARACTERS for text in texts):
        raise _invalid(constraint, f"it has a text of more than {_MOST_TEXT_CHARACTERS} characters")


def _after_a_space(grammar: str) -> str:
    """The grammar, before which there may be a space."""
    return json.dumps({"grammars": [{"lark_grammar": 'start: " "? @answer'}, *_named("answer", grammar)]})


def _either(one: str, other: str) -> str:
    first = {"lark_grammar": "start: @one | @other"}
    return json.dumps({"grammars": [first, *_named("one", one), *_named("other", other)]})


def _named(name: str, grammar: str) -> list[dict[str, Any]]:
    """The parts of a grammar, for one that refers to it by this name."""
    parts = json.loads(grammar)["grammars"] if grammar.startswith("{") else [{"lark_grammar": grammar}]
    stated = [{key: value for key, value in part.items() if value is not None} for part in parts]
    return [stated[0] | {"name": name}, *stated[1:]]


def layouts() -> list[dict[str, Any]]:
    """How JSON may be laid out, as options of the library; the last one takes any."""
    # Without this, a model that writes \u00fc for ü is led to another character after the backslash.
    options: dict[str, Any] = {"json_allow_general_unicode_escapes": True}
    one_line = [
        {"whitespace_flexible": False, "item_separator": item, "key_separator": key} for item, key in JSON_LAYOUTS
    ]
    return [*(options | layout for layout in one_line), options | {"whitespace_pattern": INDENTED}]


def _following() -> AbstractContextManager[None]:
    return border.as_ours(_cannot_follow)


def _cannot_follow(why: str) -> ConstraintInvalid:
    return ConstraintInvalid(
        f"the constraint cannot be followed any further: {why}", hint="Make it simpler, or ask without a constraint."
    )


def _check(layout: Any) -> None:
    if layout.is_error():
        raise _cannot_follow(_reason(layout))


def _reason(layout: Any) -> str:
    """The library's message without the state of its parser."""
    said = str(layout.get_error()).split("\n<state>")[0].strip()
    return next((words for sign, words in _IN_WORDS.items() if sign in said), said)


def _common(lists: list[list[int]]) -> list[int]:
    """What all of them begin with."""
    same = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*lists, strict=False))
    return [tokens[0] for tokens in same]


def _invalid(constraint: Held, why: str) -> ConstraintInvalid:
    return ConstraintInvalid(
        f"the {constraint.kind.replace('_', ' ')} cannot be used: {why.strip()}",
        hint="Mend it, or ask without a constraint.",
    )


def _tokens_in(tokenizer: str) -> int:
    """How many tokens a tokenizer.json has. Raises ValueError for ids that the library would take for others."""
    parsed = json.loads(tokenizer)
    vocab = parsed["model"]["vocab"]
    names = set(vocab) if isinstance(vocab, dict) else {piece for piece, _ in vocab}
    added = parsed.get("added_tokens") or ()
    if len(added) > _MOST_ADDED_TOKENS:
        raise ValueError(f"it has {len(added)} added tokens, and {_MOST_ADDED_TOKENS} can be read at most")
    names |= {token["content"] for token in added}
    if isinstance(vocab, dict) and max(vocab.values()) >= len(names):
        raise ValueError("there are gaps between the ids of its tokens")
    return len(names)
