"""Whether what a package states in several files is the same in all of them, and is sane."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from edgeship.package import genai_config
from edgeship.package.genai_config import Search
from edgeship.system import json_file
from edgeship.system.fields import Fields, shown
from edgeship.validate.integrity.looked_at import LookedAt, judged
from edgeship.validate.verdict import Finding

if TYPE_CHECKING:
    from edgeship.validate.integrity import IntegrityBounds

GENERATION = "generation_config.json"
_SAMPLED = ("temperature", "top_p", "top_k", "repetition_penalty")
# What transformers takes where the file says nothing.
_SILENT = Search(do_sample=False, temperature=1.0, top_p=1.0, top_k=50, repetition_penalty=1.0)


def generation(looked: LookedAt) -> Fields:
    """generation_config.json, empty where there is none. Raises PackageDamaged."""
    path = looked.folder / GENERATION
    return json_file.fields_of(json_file.read_optional(path, looked.config.complaint), path, looked.config.complaint)


def findings(looked: LookedAt, bounds: IntegrityBounds) -> Iterator[Finding]:
    """Of the context, and of how answers are sampled where nobody says otherwise."""
    yield _context(looked)
    yield _sampling(looked, bounds)


def _context(looked: LookedAt) -> Finding:
    context, search = looked.config.context_tokens, looked.config.search
    faults = []
    if looked.package is not None and looked.package.manifest.context_tokens != context:
        stated = looked.package.manifest.context_tokens
        faults.append(f"The manifest states a context of {stated:,} tokens, and genai_config.json one of {context:,}")
    if search.max_length is not None and search.max_length > context:
        faults.append(f"Answers may end at token {search.max_length:,}, and the context has {context:,}")
    both = looked.package is not None
    stating = f"The manifest and {genai_config.FILE_NAME} state" if both else f"{genai_config.FILE_NAME} states"
    compared = f"{stating} a context of {context:,} tokens, and no answer may end beyond it."
    return judged("context", faults, f"{compared} No engine goes by what other files state, which was not compared.")


def _sampling(looked: LookedAt, bounds: IntegrityBounds) -> Finding:
    search = looked.config.search
    faults = [*_odd(search, bounds), *_obeyed_by_one(looked), *_otherwise(looked)]
    return judged("sampling-defaults", faults, f"Where nobody says otherwise it answers {search.in_words}.")


def _odd(search: Search, bounds: IntegrityBounds) -> Iterator[str]:
    penalty = search.repetition_penalty
    if penalty is not None and not 1 / bounds.max_repetition_penalty <= penalty <= bounds.max_repetition_penalty:
        yield f"The repetition penalty is {penalty:g}, and {bounds.max_repetition_penalty:g} is the most"
    if search.do_sample and (search.temperature or 0) > bounds.max_temperature:
        yield f"It samples at temperature {search.temperature:g}, and {bounds.max_temperature:g} is the most"


def _obeyed_by_one(looked: LookedAt) -> Iterator[str]:
    """Settings by which onnxruntime-genai and Foundry Local answer otherwise than what is measured here."""
    for key, neutral in looked.config.not_followed.items():
        do = "take it out" if neutral is None else f"write {neutral}, or take it out"
        value = looked.config.document["search"][key]
        yield f"search.{key} in {genai_config.FILE_NAME} is {shown(value)}, which onnxruntime-genai alone obeys: {do}"


def _otherwise(looked: LookedAt) -> Iterator[str]:
    """Where our builder wrote both files, they say the same; other tools fill genai_config.json in their own way."""
    fields = generation(looked)
    if looked.of_another_tool or not fields.values:
        return
    stated, search = genai_config.read_search(fields), looked.config.search
    greedy = stated.temperature == 0 or not stated.do_sample
    if search.do_sample == greedy:
        yield f"By genai_config.json it answers {search.in_words}, by {GENERATION} {stated.in_words}"
    silent = asdict(_SILENT)
    for name in _SAMPLED:
        said, done = getattr(stated, name), getattr(search, name)
        if said is None or (name == "temperature" and said == 0):
            continue
        if (done if done is not None else silent[name]) != said:
            yield f"{name} is {done} in genai_config.json and {said} in {GENERATION}"
