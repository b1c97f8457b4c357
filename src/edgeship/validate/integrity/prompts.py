"""Whether all readers of a package make the same prompts, and whether what ends an answer also stops the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from edgeship.engine import prompt_readers
from edgeship.engine.api import Conversation
from edgeship.errors import DependencyMissing, EdgeshipError, EngineFailed, TemplateInvalid, TemplateMissing
from edgeship.package import fidelity, genai_config, template
from edgeship.package.end_of_turn import end_of_turn
from edgeship.package.fidelity import Encoder
from edgeship.package.manifest import GENAI
from edgeship.validate.integrity.declared import GENERATION, generation
from edgeship.validate.integrity.looked_at import LookedAt, judged
from edgeship.validate.verdict import Finding

if TYPE_CHECKING:
    from edgeship.validate.integrity import IntegrityBounds

OURS = "edgeship"
# What templates call tokens; other texts in brackets are ordinary text in many.
_CONTROL = re.compile(r"<[|\uff5c][^|\uff5c<>\s]{1,64}[|\uff5c]>|<(?:start|end)_of_turn>|</?s>|<(?:bos|eos)>")
_TURNS = tuple({"role": role, "content": "?"} for role in ("system", "user", "assistant", "user"))


def findings(looked: LookedAt, bounds: IntegrityBounds, *, strict: bool) -> Iterator[Finding]:
    """Of readers, of what begins a text, of control tokens and of what ends answers.

    strict: whether onnxruntime-genai is to make our prompts; a folder of another tool is answered by our own engine.
    """
    if looked.codec.template is None:
        raise TemplateMissing("it has no chat template", where=str(looked.folder))
    yield from _readers(looked, strict=strict)
    yield _control_tokens(looked, bounds)
    yield _stop_tokens(looked)


# --- the same token ids ----------------------------------------------------------------------------------------------


def _readers(looked: LookedAt, *, strict: bool) -> Iterator[Finding]:
    codec = looked.codec
    assert codec.template is not None
    samples = fidelity.conversations_for(codec.template, codec.special_tokens)
    not_for = looked.package.manifest.not_for if looked.package is not None else {}
    encoders: dict[str, Encoder] = {
        # All readers take control tokens in a text as such here, as transformers does in training.
        OURS: lambda messages: codec.render(Conversation(messages), trusting=True).tokens,
    }
    try:
        with prompt_readers.others(looked.folder, not_for) as others:
            encoders |= others
            found = fidelity.check_fidelity(encoders, samples, lambda ids: codec.decode(ids, special=True))
            instructed = [name for name, encode in others.items() if _takes_instructions(encode)]
            begins = {name: tuple(encode(samples[0].messages)) for name, encode in encoders.items()}
    except DependencyMissing as error:
        yield Finding("template-fidelity", "skipped", f"No other reader is there to compare with: {error.what}.")
        begins = {OURS: tuple(encoders[OURS](samples[0].messages))}
    except EdgeshipError as error:
        if strict:
            raise
        yield Finding("template-fidelity", "skipped", f"{GENAI} makes no prompts of it: {error.what}.")
        begins = {OURS: tuple(encoders[OURS](samples[0].messages))}
    else:
        differing = [str(one) for one in found if one.excuse is None]
        if instructed and not template.takes_instructions(codec.template, tuple(codec.special_tokens.items())):
            differing.append(f"{', '.join(instructed)} writes system turns, and the chat template leaves them out")
        yield _agreement(differing, len(samples), encoders, not_for, strict)
    yield _bos_once(looked, begins)


def _takes_instructions(encode: Encoder) -> bool:
    """Whether a reader's prompt has what a system turn says; see `template.takes_instructions`."""

    def prompt(text: str) -> tuple[int, ...]:
        return tuple(encode([{"role": "system", "content": text}, {"role": "user", "content": "?"}]))

    try:
        return prompt("edgeship") != prompt("another")
    except (TemplateInvalid, EngineFailed):  # the second where onnxruntime-genai renders a template that refuses
        return False


def _agreement(
    differing: list[str], count: int, encoders: Mapping[str, Encoder], not_for: Mapping[str, str], strict: bool
) -> Finding:
    name = "template-fidelity"
    if not_for:
        return Finding(name, "skipped", f"It is for Edgeship's own engine: {'; '.join(not_for.values())}.")
    if differing and not strict:
        told = f"Edgeship's own engine answers, and others make other prompts of it: {differing[0]}."
        return Finding(name, "skipped", told, noted=True)
    said = f"{', '.join(encoders)} make the same token ids of {count} conversations."
    return judged(name, [f"Readers of the chat template disagree: {one}" for one in differing], said)


def _bos_once(looked: LookedAt, begins: Mapping[str, tuple[int, ...]]) -> Finding:
    files = looked.tokenizer_files
    known = {files.role_id("bos_token"), *looked.config.begin_ids}
    faults = [
        f"By {reader} a prompt begins with the token {files.special_tokens.get('bos_token', ids[0])!r} twice"
        for reader, ids in begins.items()
        if len(ids) > 1 and ids[0] == ids[1] and ids[0] in known
    ]
    once = any(ids[:1] and ids[0] in known for ids in begins.values())
    said = "stands there once" if once else "is in none"
    return judged("bos-once", faults, f"Of tokens that begin a prompt, the one that begins texts {said}.")


# --- control tokens, and what ends an answer -------------------------------------------------------------------------


def _control_tokens(looked: LookedAt, bounds: IntegrityBounds) -> Finding:
    """A family's template with another family's tokenizer writes control tokens that fall into pieces.

    Some families have turns in plain text that only look like tokens (Zephyr, Tulu), but end each with a real one.
    """
    codec, files = looked.codec, looked.tokenizer_files
    assert codec.template is not None
    turns = codec.readable(_TURNS)
    text = template.render(codec.template, turns, special_tokens=codec.special_tokens)
    known = [token for token in files.ids if token and token in text]
    unknown = sorted(set(_CONTROL.findall(text)) - set(known))
    ids = codec.render(Conversation(turns), trusting=True).tokens
    pieces = [token for token in known if _TELLING.search(token) and files.ids[token] not in ids]
    faults = [f"The template writes {token}, which the tokenizer reads in pieces" for token in pieces]
    if unknown and not known and len(unknown) > bounds.max_unknown_control_texts:
        faults.append(
            f"The template writes {', '.join(unknown)} around turns and nothing that is a token: "
            "it is of another family than the tokenizer"
        )
    beyond = sorted({number for number in ids if number >= looked.config.vocab_size})
    faults += [
        f"The template writes the token {number}, and the model has {looked.config.vocab_size}" for number in beyond
    ]
    return judged(
        "control-tokens", faults, f"Each control token that the template writes is one token: there are {len(known)}."
    )


_TELLING = re.compile(r"^[<\[\uff5c].*[>\]\uff5c]$")


def _stop_tokens(looked: LookedAt) -> Finding:
    codec, files, ends = looked.codec, looked.tokenizer_files, looked.config.end_ids
    assert codec.template is not None
    texts = {number: text for text, number in files.ids.items()}

    def shown(number: int) -> str:
        return f"{texts[number]} ({number})" if number in texts else str(number)

    after = end_of_turn(files, codec.template)
    stopping = ", ".join(map(shown, sorted(ends)))
    faults = [] if ends else [f"{genai_config.FILE_NAME} names no token that ends an answer"]
    told = "The chat template ends an answer with"
    if after.token is not None and after.token not in ends:
        faults.append(f"{told} {shown(after.token)}, and only {stopping or 'nothing'} stops the model")
    written = _CONTROL.match(after.text)
    if after.token is None and written and not any(text in after.text for text in map(texts.get, ends) if text):
        faults.append(f"{told} {written[0]}, which is no token and stops nothing")
    special = {*codec.tokenizer.added_tokens, *map(files.role_id, files.special_tokens)}
    faults += [
        f"The token {shown(number)} is to stop the model, and is none that stands apart from texts"
        for number in sorted(ends - special)
    ]
    if not looked.of_another_tool:
        own = files.role_id("eos_token")
        stated = {"The tokenizer": () if own is None else (own,), GENERATION: generation(looked).ids("eos_token_id")}
        faults += [
            f"{where} ends answers with {shown(number)}, and {genai_config.FILE_NAME} does not"
            for where, numbers in stated.items()
            for number in numbers
            if number not in ends
        ]
    return judged("stop-tokens", faults, f"What ends an answer stops the model: {stopping}.")
