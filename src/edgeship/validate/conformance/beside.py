"""What is said beside answers in words: tool calls, log-probabilities, embeddings, and what models there are."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from edgeship.measure.cases import schemas
from edgeship.validate.apis import OLLAMA_CHAT, OLLAMA_GENERATE, ollama_schemas, openai_schemas
from edgeship.validate.apis.api import Api
from edgeship.validate.apis.shapes import Schema
from edgeship.validate.apis.told import value_of
from edgeship.validate.conformance.bounds import ConformanceBounds
from edgeship.validate.conformance.looking import Answered, Looking
from edgeship.validate.conformance.wanted import TOOL
from edgeship.validate.over_http import Reply, Request, exchange
from edgeship.validate.server import Server
from edgeship.validate.verdict import Evidence, Finding

_CALL_TOKENS = 128
_REFUSED = range(400, 502)


def chat_findings(looking: Looking, whole: Answered) -> Iterator[Finding]:
    """Tool calls and log-probabilities by OpenAI's chat completions."""
    yield _calls(looking, whole)
    yield _logprobs(looking, whole)


def _calls(looking: Looking, whole: Answered) -> Finding:
    wanted = replace(whole.wanted, calls=True, most_tokens=_CALL_TOKENS)
    answers = []
    for stream in (False, True):
        answered = looking.answer(replace(wanted, stream=stream))
        if answered.refused:
            return looking.not_looked_at("tools", f"tools are refused with {answered.said.status}")
        if answered.told.finish == "length" or not (answered.told.calls or answered.told.faults):
            return looking.not_looked_at("tools", "it calls no tool when it is to")
        answers.append(answered)
    found = [(answered, fault) for answered in answers for fault in answered.told.faults]
    for answered in answers:
        for name, arguments in answered.told.calls:
            if fault := _call_fault(name, arguments):
                found.append((answered, fault))
    return looking.of("tools", "calls name a tool that there is, and their arguments are its JSON", found)


def _call_fault(name: str, arguments: str) -> str | None:
    if name != TOOL["name"]:
        return f"it calls {name!r}, which is no tool"
    try:
        value = json.loads(arguments)
    except ValueError:
        return f"the arguments of its call are no JSON: {arguments[:80]!r}"
    return None if isinstance(value, dict) else f"the arguments of its call are no object: {arguments[:80]!r}"


def _logprobs(looking: Looking, whole: Answered) -> Finding:
    answered = looking.answer(replace(whole.wanted, tells=True))
    if answered.refused:
        return looking.not_looked_at("logprobs", f"log-probabilities are refused with {answered.said.status}")
    found = [(answered, fault) for fault in answered.told.faults]
    made = answered.told.completion_tokens
    if not found and made is not None:
        told = len(json.loads(answered.said.body)["choices"][0]["logprobs"]["content"])
        # The token that ends an answer may be counted and not told.
        if not made - 1 <= told <= made:
            found.append((answered, f"it tells {told} tokens and says that it has {made}"))
    return looking.of("logprobs", "its tokens are told, as many as it says that it has", found)


def findings(server: Server, bounds: ConformanceBounds, spoken: Collection[Api]) -> Iterator[Finding]:
    """The lists of models and what is said of one, and embeddings, of the APIs that are spoken."""

    def said_to(asked: Request) -> Reply:
        return exchange(server.place, asked, bounds.max_silence_s)

    ollamas = {OLLAMA_CHAT, OLLAMA_GENERATE}
    if set(spoken) - ollamas:
        asked = Request("/v1/models", method="GET")
        yield _held("models", "the list of models", asked, said_to(asked), openai_schemas.MODELS, server.model)
        asked = Request("/v1/embeddings", {"model": server.model, "input": ["Hello"]})
        said = said_to(asked)
        if said.status in _REFUSED:
            yield Finding("embeddings", "skipped", f"Embeddings are refused with {said.status}.")
        else:
            yield _held("embeddings", "an embedding", asked, said, openai_schemas.EMBEDDINGS)
    if set(spoken) & ollamas:
        asked = Request("/api/tags", method="GET")
        yield _held("ollama-tags", "Ollama's list of models", asked, said_to(asked), ollama_schemas.TAGS)
        asked = Request("/api/show", {"model": server.model})
        yield _held("ollama-show", "what Ollama says of a model", asked, said_to(asked), ollama_schemas.SHOW)


def _held(name: str, what: str, asked: Request, said: Reply, schema: Schema, listed: str | None = None) -> Finding:
    faults: list[str] = [said.fault] if said.fault else []
    if said.status != 200:
        faults.append(f"it is answered with {said.status}")
    else:
        value: Any = value_of(said.body, what, faults)
        if value is not None and (fault := schemas.fault(schema, value)):
            faults.append(fault)
        elif listed is not None and listed not in _ids(value):
            faults.append(f"{listed} answers and is not listed")
    if not faults:
        return Finding(name, "pass", f"{what[0].upper()}{what[1:]} is as its schema says.")
    evidence = Evidence(
        f"conformance/{name}",
        asked.as_evidence(),
        f"{faults[0]}; {said.said}",
        f"{what} as its schema says",
    )
    told = f"{what[0].upper()}{what[1:]} is not as its schema says: {faults[0]}."
    return Finding(name, "fail", told, figure=len(faults), bound=0, unit="faults", evidence=(evidence,))


def _ids(value: Any) -> set[str]:
    return {entry["id"] for entry in value["data"]} if isinstance(value, dict) else set()
