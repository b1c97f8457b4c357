"""The tokens that begin and end an answer, which four files of a checkpoint speak of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeship.checkpoint.dimensions import text_part
from edgeship.errors import CheckpointInvalid
from edgeship.package.end_of_turn import end_of_turn
from edgeship.package.tokenizer import TokenizerFiles
from edgeship.system.fields import Fields


@dataclass(frozen=True)
class StopTokens:
    """The tokens that begin and end an answer.

    bos_id: None where the tokenizer has no such token, whatever config.json says.
    eos_ids: every token that ends an answer: the tokenizer's own, then those of generation_config.json, of
        config.json, and the one that the chat template writes after an answer.
    disagreements: one sentence for each point on which the files differ.
    texts: how these tokens are written.
    """

    bos_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int | None
    disagreements: tuple[str, ...] = ()
    texts: Mapping[int, str] = field(default_factory=dict)


def find_stop_tokens(
    config: Fields,
    generation: Fields,
    tokenizer: TokenizerFiles,
    chat_template: str | None,
    vocab_size: int,
) -> StopTokens:
    """Brings together what config.json, generation_config.json, the tokenizer and its template say.

    Raises CheckpointInvalid for a token outside the vocabulary that the model would have to read or write.
    """
    stated = {
        "config.json": _config_ids(config, "eos_token_id"),
        "generation_config.json": generation.ids("eos_token_id"),
        "the tokenizer": _ids(tokenizer.role_id("eos_token")),
    }
    of_template = _ids(end_of_turn(tokenizer, chat_template).token if chat_template is not None else None)
    eos_ids = tuple(
        dict.fromkeys(
            [
                *stated["the tokenizer"],
                *stated["generation_config.json"],
                *stated["config.json"],
                *of_template,
            ]
        )
    )
    texts = {number: text for text, number in tokenizer.ids.items()}
    bos_id, pad_id = tokenizer.role_id("bos_token"), _pad_id(config, generation, tokenizer)
    disagreements = [
        *_eos_disagreements(stated, of_template, texts),
        *_bos_disagreements(config, bos_id, texts),
    ]
    if pad_id is not None and pad_id >= vocab_size:
        disagreements.append(f"The padding token {_show(pad_id, texts)} is outside the vocabulary and is not used.")
        pad_id = None
    _check_inside(tokenizer, chat_template, [*eos_ids, *_ids(bos_id)], texts, vocab_size)
    used = [number for number in (bos_id, *eos_ids, pad_id) if number in texts and number is not None]
    return StopTokens(bos_id, eos_ids, pad_id, tuple(disagreements), {number: texts[number] for number in used})


def _config_ids(config: Fields, key: str) -> tuple[int, ...]:
    """Of the whole config where it states them, else of the part that describes the language model."""
    return config.ids(key) if key in config.values else text_part(config).ids(key)


def _pad_id(config: Fields, generation: Fields, tokenizer: TokenizerFiles) -> int | None:
    stated = (_ids(tokenizer.role_id("pad_token")), generation.ids("pad_token_id"), config.ids("pad_token_id"))
    return next((number for numbers in stated for number in numbers), None)


def _eos_disagreements(
    stated: Mapping[str, Sequence[int]], of_template: Sequence[int], texts: Mapping[int, str]
) -> list[str]:
    known = {source: numbers for source, numbers in stated.items() if numbers}
    sentences = []
    if len({frozenset(numbers) for numbers in known.values()}) > 1:
        claims = [f"{source} says {_show_all(numbers, texts)}" for source, numbers in known.items()]
        sentences.append(f"End of answer: {', '.join(claims)}.")
    unnamed = [number for number in of_template if not any(number in numbers for numbers in known.values())]
    if unnamed:
        sentences.append(f"The chat template ends an answer with {_show(unnamed[0], texts)}, which no file names.")
    if not known and not unnamed:
        sentences.append("Nothing says which token ends an answer.")
    return sentences


def _bos_disagreements(config: Fields, bos_id: int | None, texts: Mapping[int, str]) -> list[str]:
    stated = _config_ids(config, "bos_token_id")
    if not stated or stated == _ids(bos_id):
        return []
    own = "has none" if bos_id is None else f"says {_show(bos_id, texts)}"
    return [f"Beginning of text: config.json says {_show_all(stated, texts)}, the tokenizer {own}."]


def _check_inside(
    tokenizer: TokenizerFiles,
    chat_template: str | None,
    needed: Sequence[int],
    texts: Mapping[int, str],
    vocab_size: int,
) -> None:
    written = [number for text, number in tokenizer.ids.items() if text and text in (chat_template or "")]
    for number in (*needed, *written):
        if number >= vocab_size:
            raise CheckpointInvalid(
                f"the token {_show(number, texts)} is outside the model's vocabulary of {vocab_size}",
                where=str(tokenizer.folder),
                hint="They are of different models, or the embedding was not resized for added tokens.",
            )


def _ids(number: int | None) -> tuple[int, ...]:
    return () if number is None else (number,)


def _show(number: int, texts: Mapping[int, str]) -> str:
    return f"{texts[number]} ({number})" if number in texts else str(number)


def _show_all(numbers: Sequence[int], texts: Mapping[int, str]) -> str:
    return " and ".join(_show(number, texts) for number in numbers)
