"""One measurement of Foundry Local, or of another engine beside it: one JSON object. usage: foundry_parts.py PART JOB

Foundry Local answers conversations only, and never goes on past an end token, so all engines are asked conversations
and may end: the checkpoints are such that they do not.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import engine_parts
import psutil

from edgeship.engine import opening
from edgeship.engine.answer import ask
from edgeship.engine.api import Chat, Constraint, Conversation, Limits, Message, Sampling
from edgeship.engine.text import TextCodec
from edgeship.foundry.sdk import Local

Figures = dict[str, Any]
PROMPT_TOKENS, SHORT_PROMPT_TOKENS, NEW_TOKENS, REPEATS = 512, 24, 64, 3
CLIENTS, REQUESTS, CLIENT_PROMPT_TOKENS, CLIENT_NEW_TOKENS = 8, 2, 190, 48
CONVERSATION_TOKENS, LONG_PROMPT_TOKENS, EXAMPLE_TOKENS = 700, 3500, 100
_WORDS = ("order", "delivery", "refund", "please", "where", "broken", "lamp", "invoice", "address", "change", "cancel")


def one(job: Figures) -> Figures:
    """One answer at a time: time to the first token of a long and a short prompt, and tokens a second after it."""
    model = _load(job)
    first, short, rest = [], [], []
    for seed in range(REPEATS + 1):
        # Other words for each answer: our own engine would know a prompt that it has read.
        first.append(_spent_s(model, _question(job, PROMPT_TOKENS, 3 * seed), 1))
        rest.append(_spent_s(model, _question(job, PROMPT_TOKENS, 3 * seed + 1), NEW_TOKENS) - first[-1])
        short.append(_spent_s(model, _question(job, SHORT_PROMPT_TOKENS, 3 * seed + 2), 1))
    return {
        "ttft_s": statistics.median(first[1:]),
        "short_ttft_s": statistics.median(short[1:]),
        "decode_tokens_per_s": (NEW_TOKENS - 1) / statistics.median(rest[1:]),
    }


def long(job: Figures) -> Figures:
    """Tokens a second after the first, late in a long conversation."""
    model = _load(job)
    first_s = _spent_s(model, _question(job, LONG_PROMPT_TOKENS, 0), 1)
    rest_s = _spent_s(model, _question(job, LONG_PROMPT_TOKENS, 1), NEW_TOKENS) - first_s
    return {"decode_tokens_per_s": (NEW_TOKENS - 1) / rest_s}


def eight(job: Figures) -> Figures:
    """Eight clients, each of which asks again once it is answered: tokens a second in all."""
    model = _load(job)
    questions = [_question(job, CLIENT_PROMPT_TOKENS, seed) for seed in range(CLIENTS * REQUESTS)]
    _spent_s(model, questions[0], 2)

    def client(number: int) -> int:
        mine = questions[number * REQUESTS : (number + 1) * REQUESTS]
        answers = [ask(model, question, _greedy(CLIENT_NEW_TOKENS)) for question in mine]
        return sum(answer.usage.completion_tokens for answer in answers)

    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        tokens = sum(pool.map(client, range(CLIENTS)))
    return {"tokens_per_s": tokens / (time.perf_counter() - started)}


def second_turn(job: Figures) -> Figures:
    """Time to the first token of a long conversation, and of its next turn."""
    model = _load(job)
    messages: list[Message] = [{"role": "user", "content": _text(job, CONVERSATION_TOKENS, 1)}]
    _spent_s(model, _question(job, 30, 2), 2)
    cold_s = _spent_s(model, Conversation(messages), 1)
    messages += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "order a lamp"}]
    second_s = _spent_s(model, Conversation(messages), 1)
    return {"cold_s": cold_s, "second_s": second_s, "ratio": second_s / cold_s}


def example(job: Figures) -> Figures:
    """The example's questions, one after another: tokens a second, free and held to their JSON schema, pass rates."""
    model = _load(job)
    cases = engine_parts.read_cases(job["cases"])
    constraint = Constraint("json_schema", json.dumps(engine_parts.SCHEMA))
    found: Figures = {}
    for name, held in (("free", None), ("held", constraint)):
        settings = Sampling(temperature=0.0, max_tokens=EXAMPLE_TOKENS, constraint=held)
        tokens = passed = 0
        ttft_s, spent_s = [], 0.0
        for case in cases:
            answer = ask(model, Conversation(case["messages"]), settings)
            spent_s += answer.usage.e2e_s
            tokens += answer.usage.completion_tokens
            ttft_s.append(answer.usage.ttft_s)
            passed += answer.text == case["expected"]
        found |= {
            f"{name}_tokens_per_s": tokens / spent_s,
            f"{name}_ttft_ms": 1000 * statistics.median(ttft_s),
            f"{name}_pass_rate": passed / len(cases),
        }
    return found


def answers(job: Figures) -> Figures:
    """The example's greedy answers."""
    model = _load(job)
    settings = Sampling(temperature=0.0, max_tokens=EXAMPLE_TOKENS)
    cases = engine_parts.read_cases(job["cases"])
    return {"answers": [ask(model, Conversation(case["messages"]), settings).text for case in cases]}


def unasked(job: Figures) -> Figures:
    """The example's pass rate where an application says no more than how long an answer may be."""
    folder, cases = Path(job["folder"]), engine_parts.read_cases(job["cases"])
    with Local(Path(job["catalog"])) as local:
        local.register(folder, "unasked:1", {}, {})
        model = local.load("unasked:1")
        passed = 0
        for case in cases:
            pieces: list[str] = []

            def tell(text: str, pieces: list[str] = pieces) -> bool:
                pieces.append(text)
                return True

            model.answer(case["messages"], {"max_output_tokens": str(EXAMPLE_TOKENS)}, tell)
            passed += "".join(pieces) == case["expected"]
        model.unload()
        local.unregister("unasked:1")
    return {"pass_rate": passed / len(cases)}


def memory(job: Figures) -> Figures:
    """Resident memory that a model takes while it answers, and that is kept once it is closed."""
    process = psutil.Process()
    first = _load(job)
    _spent_s(first, _question(job, PROMPT_TOKENS, 0), 8)
    used = process.memory_info().rss
    first.close()
    kept = process.memory_info().rss
    second = _load(job)
    _spent_s(second, _question(job, PROMPT_TOKENS, 0), 8)
    again = process.memory_info().rss
    return {"used_mb": used / 1e6, "kept_mb": kept / 1e6, "again_mb": again / 1e6}


def _load(job: Figures) -> Chat:
    # No guesses: random weights say one token over and over, and all guesses would hold.
    return opening.load_chat(
        Path(job["folder"]), engine=job["engine"], limits=Limits(slots=job.get("slots", 1)), speculation=False
    )


def _greedy(tokens: int) -> Sampling:
    return Sampling(temperature=0.0, max_tokens=tokens)


def _spent_s(model: Chat, question: Conversation, tokens: int) -> float:
    """The time of an answer of so many tokens."""
    usage = ask(model, question, _greedy(tokens)).usage
    if usage.completion_tokens != tokens:
        raise RuntimeError(f"the answer ended after {usage.completion_tokens} tokens instead of {tokens}")
    return usage.e2e_s


def _question(job: Figures, tokens: int, seed: int) -> Conversation:
    return Conversation([{"role": "user", "content": _text(job, tokens, seed)}])


def _text(job: Figures, tokens: int, seed: int) -> str:
    """Words that make a prompt of at least so many tokens; another text for each seed, from its beginning."""
    codec = _codec(job["folder"])
    words: list[str] = [_WORDS[seed % len(_WORDS)], str(seed)]
    while len(codec.encode(" ".join(words)).tokens) < tokens:
        words.append(_WORDS[(7 * len(words) + 3 * seed) % len(_WORDS)])
    return " ".join(words)


@functools.cache
def _codec(folder: str) -> TextCodec:
    return TextCodec(Path(folder))


PARTS: dict[str, Callable[[Figures], Figures]] = {
    part.__name__: part for part in (one, long, eight, second_turn, example, answers, unasked, memory)
}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](json.loads(sys.argv[2]))))
