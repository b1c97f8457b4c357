"""A tokenizer's files, beside a checkpoint's weights and in a package: special tokens, token ids, the tokenizer itself.

The chat template that may stand in one of them is template.py's.
"""

from __future__ import annotations

import codecs
import functools
import itertools
import json
import math
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.errors import EdgeshipError
from edgeship.system import border, foreign, json_file
from edgeship.system.fields import Fields
from edgeship.system.json_file import Complaint
from edgeship.system.storage import bring

FILE_NAME, CONFIG_NAME, SPECIAL_TOKENS_NAME = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
FILES = (
    FILE_NAME,
    CONFIG_NAME,
    SPECIAL_TOKENS_NAME,
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
)
_PATHS = ("name_or_path", "special_tokens_map_file", "tokenizer_file", "vocab_file", "merges_file", "cache_dir")
_ROLES = tuple(f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
ENCODE_S = 30.0
"""A text that a tokenizer reads for longer is given up: some patterns never come to an end with some texts."""
_MOST_BYTES = 1 << 26
"""Of a tokenizer.json; the largest in use have half of that."""
# How many times as long a text may become by a tokenizer's rules for replacing; those in use leave its length alone.
_MOST_GROWTH = 64
STRIP_KEY = "edgeship_strip_first_space"
"""Stated in the tokenizer_config.json of a package whose tokenizer.json is `without_strip`."""
_NOT_SHOWN = frozenset({STRIP_KEY, "chat_template", *_PATHS})
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
_SEAM = f"{secrets.randbelow(10**20):020}"
"""Nobody can guess it and write it into a text. Digits, which templates show as they are, whatever they escape."""


@dataclass(frozen=True)
class TokenizerFiles:
    """What the files beside tokenizer.json say; that one, which may be large, is read by `ids` and `load`.

    folder: where tokenizer.json lies.
    config: tokenizer_config.json, empty where there is none.
    special_tokens: bos_token, eos_token, ... to their texts; a role without a token is left out.
    besides: where config and special tokens are put together from two folders, the files of the other one.
    """

    folder: Path
    config: Mapping[str, Any]
    special_tokens: Mapping[str, str]
    complaint: Complaint
    besides: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that there are."""
        return (*_present(self.folder, FILES), *self.besides)

    @property
    def own_files(self) -> tuple[Path, ...]:
        """Those that say by themselves what this tokenizer is; `config` is what the others say together."""
        stated = (CONFIG_NAME, SPECIAL_TOKENS_NAME) if self.besides else ()
        return _present(self.folder, [name for name in FILES if name not in stated])

    @functools.cached_property
    def ids(self) -> Mapping[str, int]:
        """Ids of special and added tokens by their text. Raises the complaint's error."""
        path = self.folder / FILE_NAME
        return _read_ids(path, tuple(self.special_tokens.values()), self.complaint)

    def role_id(self, role: str) -> int | None:
        """The id of e.g. "eos_token"; None where there is no such token."""
        return self.ids.get(self.special_tokens.get(role, ""))

    def load(self) -> Tokenizer:
        """The tokenizer itself, see `load`, with what the config says of its decoder (see `without_strip`)."""
        loaded = load(self.folder / FILE_NAME, self.complaint)
        if STRIP_KEY in self.config:
            from tokenizers import decoders

            loaded.library.decoder = decoders.Sequence([loaded.library.decoder, decoders.Strip(" ", 1, 0)])
        return loaded

    def copy_to(self, folder: Path) -> None:
        """Puts the tokenizer into one folder, for readers that take a folder."""
        for path in self.own_files:
            (folder / path.name).unlink(missing_ok=True)
            bring(path, folder / path.name)
        if self.besides:
            (folder / SPECIAL_TOKENS_NAME).unlink(missing_ok=True)
            json_file.write_object(folder / CONFIG_NAME, spelled_out(self.config, self.special_tokens))


def read(folder: Path, complaint: Complaint) -> TokenizerFiles:
    """The tokenizer's files in `folder`. Raises the complaint's error."""
    config, tokens = _read_said(folder, complaint)
    return TokenizerFiles(folder, config, tokens, complaint)


def read_document(path: Path, complaint: Complaint) -> dict[str, Any]:
    """What a tokenizer.json says, which may be larger than other documents. Raises the complaint's error."""
    return json_file.read_object(path, complaint, most_bytes=_MOST_BYTES)


def read_over(folder: Path, over: Path, complaint: Complaint) -> TokenizerFiles:
    """The tokenizer of a base in `folder` as it is after training, which left files in the adapter's folder `over`.

    A whole tokenizer there is the one. Of a part, such as tokenizer_config.json alone, each word counts before the
    base's. Raises the complaint's error.
    """
    if (over / FILE_NAME).is_file() and (over / CONFIG_NAME).is_file():
        return read(over, complaint)
    place, other = (over, folder) if (over / FILE_NAME).is_file() else (folder, over)
    base_config, base_tokens = _read_said(folder, complaint)
    config, tokens = _read_said(over, complaint)
    besides = _present(other, (CONFIG_NAME, SPECIAL_TOKENS_NAME))
    return TokenizerFiles(place, base_config | config, base_tokens | tokens, complaint, besides)


def _present(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    return tuple(path for name in names if (path := folder / name).is_file())


def _read_said(folder: Path, complaint: Complaint) -> tuple[dict[str, Any], dict[str, str]]:
    """tokenizer_config.json, and the special tokens that it and its older companion name."""
    config, older = (
        json_file.fields_of(json_file.read_optional(folder / name, complaint), folder / name, complaint)
        for name in (CONFIG_NAME, SPECIAL_TOKENS_NAME)
    )
    return dict(config.values), _special_tokens(config, older)


# GPT-2's way to write bytes as characters: those that can be seen as themselves, the others by number from 256 on.
_SEEN = (*range(33, 127), *range(161, 173), *range(174, 256))
_UNSEEN = [byte for byte in range(256) if byte not in _SEEN]
_BYTES = {chr(byte): byte for byte in _SEEN} | {chr(256 + number): byte for number, byte in enumerate(_UNSEEN)}
# SentencePiece's way to write those that are no whole character.
_PART = re.compile("<0x([89A-F][0-9A-F])>")
_BEFORE = "a"


def with_seams(text: str, places: Sequence[int]) -> str:
    """The text with seams at these places, which ascend."""
    return _SEAM.join(text[start:end] for start, end in itertools.pairwise([0, *places, len(text)]))


def without_seams(text: str) -> tuple[str, list[int]]:
    """The text without its seams, and the places where they were."""
    pieces = text.split(_SEAM)
    return "".join(pieces), list(itertools.accumulate(map(len, pieces[:-1])))


class Tokenizer:
    """A tokenizer.json, run by the library `tokenizers`; however that fails, it is the complaint's error.

    library: its `tokenizers.Tokenizer`.
    """

    def __init__(self, library: Any, path: Path, complaint: Complaint) -> None:
        self.library, self._path, self._complaint = library, path, complaint

    def encode(self, text: str, *, special: bool, seams: Sequence[int] = ()) -> list[int]:
        """The ids of a text, which is Unicode. special: with the tokens that it puts around every text.

        seams: places across which no added token is found, for texts without those around them.
        """

        def work() -> list[int]:
            if seams:
                [found] = self._seamed.encode_batch_fast([with_seams(text, seams)], add_special_tokens=False)
                seam = self._seamed.token_to_id(_SEAM)
                return [number for number in found.ids if number != seam]
            # The library's way for many texts lets other threads run, and the one for a single text does not.
            [found] = self.library.encode_batch_fast([text], add_special_tokens=special)
            return list(found.ids)

        try:
            with border.as_ours(lambda said: self._failed(f"cannot read a text: {said}")):
                return border.within(ENCODE_S, work)
        except border.TookTooLong as error:
            raise self._failed(f"has not read a text of {len(text)} characters within {ENCODE_S:.0f} s") from error

    def decode(self, tokens: Sequence[int], *, special: bool) -> str:
        """The text of tokens. special: with the texts of special tokens, which otherwise leave none."""
        with border.as_ours(lambda said: self._failed(f"cannot write a text: {said}")):
            return str(self.library.decode(list(tokens), skip_special_tokens=not special))

    def token_bytes(self, token: int) -> bytes:
        """What a token adds to the bytes of a text, where others stand before it; nothing for no token.

        A token may be a part of a character. Special tokens have bytes too, though texts leave them out.
        """
        piece = self.library.id_to_token(token)
        if piece is None:
            return b""
        if "ByteLevel" in self._decoders:
            whole = not all(character in _BYTES for character in piece)  # as no token of the vocabulary is
            return piece.encode() if whole else bytes(_BYTES[character] for character in piece)
        if "ByteFallback" in self._decoders and (byte := _PART.fullmatch(piece)):
            return bytes.fromhex(byte[1])
        with border.as_ours(lambda said: self._failed(f"cannot write a token: {said}")):
            decode = self.library.decoder.decode if self.library.decoder else " ".join
            return str(decode([_BEFORE, piece])).removeprefix(_BEFORE).encode()

    def normalized(self, text: str) -> str:
        """The text as it is read, such as with accents composed."""
        rules = self.library.normalizer
        return text if rules is None else str(rules.normalize_str(text))

    def pieces(self, text: str) -> list[str]:
        """The tokens of a text that is no more than one piece, before which nothing stands."""
        with border.as_ours(lambda said: self._failed(f"cannot read a text: {said}")):
            return [token.value for token in self.library.model.tokenize(text)]

    def covers(self, text: str) -> bool:
        """Whether it has a token for every character of a text: those that read bytes have."""
        return bool(self._decoders & {"ByteLevel", "ByteFallback"}) or self._characters.issuperset(
            self.normalized(text)
        )

    @functools.cached_property
    def _characters(self) -> frozenset[str]:
        """That stand in its tokens, and blanks, which it may leave out or write otherwise."""
        return frozenset(itertools.chain(" ", *self.vocabulary.values()))

    @functools.cached_property
    def _decoders(self) -> set[str]:
        return _kinds(_rules(self.library.decoder))

    @functools.cached_property
    def added_tokens(self) -> Mapping[int, Any]:
        """Tokens that are found in a text before it is cut into pieces: the library's, by their ids."""
        return dict(sorted(self.library.get_added_tokens_decoder().items()))

    @property
    def vocabulary(self) -> dict[int, str]:
        """All tokens as the file has them, by their ids."""
        return {number: token for token, number in self.library.get_vocab(with_added_tokens=True).items()}

    @functools.cached_property
    def _seamed(self) -> Any:
        """The library's tokenizer over the same vocabulary in memory, with the seam as one token more."""
        from tokenizers import AddedToken
        from tokenizers import Tokenizer as Library

        seamed = Library(self.library.model)
        for part in ("normalizer", "pre_tokenizer"):
            if (found := getattr(self.library, part)) is not None:
                setattr(seamed, part, found)
        seamed.add_tokens([*self.added_tokens.values(), AddedToken(_SEAM, normalized=False)])
        return seamed

    def _failed(self, what: str) -> EdgeshipError:
        return self._complaint.about(self._path, what)


def load(path: Path, complaint: Complaint) -> Tokenizer:
    """The tokenizer of a tokenizer.json. Raises the complaint's error."""
    from tokenizers import Tokenizer as Library

    with border.as_ours(lambda said: complaint.about(path, f"cannot be read: {said}")):
        library = Library.from_buffer(foreign.read_bytes(path).removeprefix(codecs.BOM_UTF8))
        # A file may carry the training's truncation and padding; they would cut or fill texts silently.
        library.no_truncation()
        library.no_padding()
        growth = max(_growth(_rules(library.normalizer)), _growth(_rules(library.decoder)))
    if growth > _MOST_GROWTH:
        raise complaint.about(path, f"would make texts up to {growth} times as long, and {_MOST_GROWTH} is the most")
    return Tokenizer(library, path, complaint)


def _rules(part: Any) -> dict[str, Any]:
    """A part of a tokenizer as its file has it."""
    return {} if part is None else dict(json.loads(part.__getstate__()))


def _kinds(rules: Mapping[str, Any]) -> set[str]:
    """The types of the decoders in these rules."""
    return {rules.get("type", ""), *itertools.chain(*map(_kinds, rules.get("decoders") or ()))}


def _growth(rules: Mapping[str, Any]) -> int:
    """How many times as long these rules may make a text at most."""
    steps = rules.get("normalizers") or rules.get("decoders")
    if steps:
        return math.prod(map(_growth, steps))
    if rules.get("type") != "Replace":
        return 1
    # A regular expression may match a single character, and an empty one stands between all characters.
    return max(1, math.ceil(len(rules["content"]) / max(1, len(rules["pattern"].get("String", "")))))


def without_strip(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """A tokenizer.json whose decoder leaves the first space in place; None where it does so, or every text needs it.

    onnxruntime-genai takes a decoder that strips the first space for the sign of a tokenizer which puts one before
    every piece of text, also where the pre-tokenizer puts one before the first piece only.
    """
    splitter, decoder = document.get("pre_tokenizer") or {}, document.get("decoder") or {}
    steps = decoder.get("decoders")
    if splitter.get("type") != "Metaspace" or splitter.get("prepend_scheme") != "first" or not isinstance(steps, list):
        return None
    kept = [step for step in steps if step != _STRIP]
    return {**document, "decoder": {**decoder, "decoders": kept}} if len(kept) == len(steps) - 1 else None


def spelled_out(config: Mapping[str, Any], special_tokens: Mapping[str, str]) -> dict[str, Any]:
    """A tokenizer_config.json that states these special tokens itself, for readers that know no other file."""
    stated = {role: _text(token) for role, token in config.items() if role.endswith("_token")}
    differing = {role for role in {*stated, *special_tokens} if stated.get(role) != special_tokens.get(role)}
    return {**config, **{role: special_tokens.get(role) for role in sorted(differing)}}


def told(files: TokenizerFiles) -> dict[str, Any]:
    """A tokenizer_config.json as others may see it: special tokens as texts, and nothing of ours or of its makers'."""
    own = spelled_out(files.config, files.special_tokens)
    return {name: _shown(value) for name, value in own.items() if name not in _NOT_SHOWN}


def _shown(value: Any) -> Any:
    return value["content"] if isinstance(value, dict) and isinstance(value.get("content"), str) else value


def _special_tokens(config: Fields, older: Fields) -> dict[str, str]:
    """As transformers reads them: special_tokens_map.json counts, and more, where the config lists no added tokens."""
    tokens: dict[str, str | None] = {}
    for fields in [config] if "added_tokens_decoder" in config.values else [config, older]:
        if isinstance(fields.values.get("extra_special_tokens"), dict):
            tokens = _roles(fields.part("extra_special_tokens")) | tokens
        tokens |= _roles(fields)
    return {role: text for role, text in tokens.items() if text}


def _roles(fields: Fields) -> dict[str, str | None]:
    """The text of each role's token; None where it has none."""
    for role in _ROLES:
        if not isinstance(fields.values.get(role), str | dict | None):
            raise fields.wrong(role, fields.values[role], "a text, or an object with its text as content")
        if isinstance(fields.values.get(role), dict):
            fields.part(role).required_text("content")
    return {role: _text(token) for role, token in fields.values.items() if role.endswith("_token")}


def _text(token: object) -> str | None:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _read_ids(path: Path, wanted: tuple[str, ...], complaint: Complaint) -> dict[str, int]:
    tokenizer = json_file.fields_of(read_document(path, complaint), path, complaint)
    _refuse_dropout(tokenizer.part("model"), path, complaint)
    added = tokenizer.parts("added_tokens")
    ids = {token.required_text("content"): token.required_count("id", least=0) for token in added}
    missing = [text for text in wanted if text not in ids]
    if isinstance(tokenizer.part("model").values.get("vocab"), list):
        return ids | _listed_ids(tokenizer.part("model").items("vocab"), missing)
    vocabulary = tokenizer.part("model").part("vocab")
    return ids | {text: number for text in missing if (number := vocabulary.count(text, least=0)) is not None}


def _refuse_dropout(model: Fields, path: Path, complaint: Complaint) -> None:
    dropout = model.number("dropout")
    if dropout:
        raise complaint.error(
            f"{path.name} has {model.name}dropout {dropout:g}, which makes the tokens of a text random",
            where=str(path),
            hint="It is for training only: set it to null.",
        )


def _listed_ids(pieces: Sequence[Any], wanted: Collection[str]) -> dict[str, int]:
    """Of a vocabulary that is a list of pieces, each with its score."""
    texts = (piece[0] if isinstance(piece, list) and piece else None for piece in pieces)
    return {text: number for number, text in enumerate(texts) if isinstance(text, str) and text in wanted}
