"""genai_config.json: threads and context."""

from __future__ import annotations

from edgeship.package.genai_config import stated_threads, tuned
from tests.packages import GENAI_CONFIG


def test_a_tuned_configuration_differs_in_threads_and_context_alone() -> None:
    made = tuned(GENAI_CONFIG, threads=3, context_tokens=64)
    assert stated_threads(made["model"]["decoder"]) == 3
    assert made["model"]["decoder"]["session_options"]["inter_op_num_threads"] == 1
    assert made["model"]["context_length"] == 64
    decoder = GENAI_CONFIG["model"]["decoder"]
    same = made["model"] | {"context_length": GENAI_CONFIG["model"]["context_length"]}
    same["decoder"] = made["model"]["decoder"] | {"session_options": decoder["session_options"]}
    assert made | {"model": same} == GENAI_CONFIG
    assert stated_threads(decoder) is None


def test_a_configuration_that_says_little_is_tuned_too() -> None:
    made = tuned({"model": {"decoder": {"session_options": None}}}, threads=2, context_tokens=8)
    assert stated_threads(made["model"]["decoder"]) == 2
    assert stated_threads({}) is None
