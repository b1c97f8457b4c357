"""What goes to another process and back is the same: evaluation harnesses compare log-probabilities as floats."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeship.engine.api import Constraint, Logprob, Prompt, Sampling, Token, ToolCall, Usage
from edgeship.engine.codec import Spelling
from edgeship.engine.sampling import logprob
from edgeship.engine.wire import read_prompt, read_sampling, read_spellings, read_token, spellings

LOGITS = st.lists(st.floats(-80, 80, width=32), min_size=2, max_size=12)


@given(LOGITS, st.data())
def test_a_log_probability_is_the_same_number_wherever_it_stands(logits: list[float], data: st.DataObject) -> None:
    token = data.draw(st.integers(0, len(logits) - 1))
    found = logprob(np.array(logits, np.float32), token, top=len(logits))
    sent = Token(token, "", logprob=found, prompt_logprobs=(found,))
    back = read_token(json.loads(json.dumps(asdict(sent))))
    assert back == sent
    assert back.logprob
    top = dict(back.logprob.top)
    assert top[token] == back.logprob.logprob
    if logits[token] == max(logits):
        assert max(top.values()) == back.logprob.logprob


def test_steps_and_settings_come_back_as_they_were() -> None:
    usage = Usage(3, 5, 0.1, 0.2, cached_tokens=1, reasoning_tokens=4)
    call = ToolCall("c", "f", "{}")
    step = Token(7, "a\N{GRINNING FACE}", "stop", Logprob(-1 / 3), usage, None, "b", (call,), prompt_tokens=3, start=5)
    assert read_token(json.loads(json.dumps(asdict(step)))) == step
    settings = Sampling(
        temperature=0.1, logit_bias={5: -1.0}, stop=("a",), constraint=Constraint("regex", "a"), thinking_tokens=0
    )
    assert read_sampling(json.loads(json.dumps(asdict(settings)))) == settings
    prompt = Prompt((5, 6), continues=True)
    assert read_prompt(json.loads(json.dumps(asdict(prompt)))) == prompt


def test_bytes_come_back_as_they_were() -> None:
    found = (Spelling(bytes(range(256))), Spelling(b"<end>", special=True), Spelling(b""))
    assert read_spellings(json.loads(json.dumps(spellings(found)))) == found
