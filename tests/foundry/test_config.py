"""What the copy of a package says to Foundry Local."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import UsageError
from edgeship.foundry.checks import Prepared, check
from edgeship.foundry.config import RESERVED_BYTES, Provision, apply, choose, notes
from edgeship.package import DAMAGED
from edgeship.package.genai_config import GenaiConfig, parse
from tests.packages import GENAI_CONFIG, make_package


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """24 layers, 2 heads of 64: the 0.5 B shape, with its context."""
    made = check(make_package(tmp_path / "package").folder)
    decoder = {"num_hidden_layers": 24, "num_key_value_heads": 2, "head_size": 64}
    model = GENAI_CONFIG["model"] | {"context_length": 32768, "decoder": decoder}
    return replace(made, config=config(model=model))


def config(**changes: Any) -> GenaiConfig:
    return parse(GENAI_CONFIG | changes, Path("genai_config.json"), DAMAGED)


def test_tuning_changes_threads_and_makes_greedy_packages_greedy() -> None:
    greedy = apply(config(), Provision(4, 512))
    assert greedy["search"]["top_k"] == 1
    session = greedy["model"]["decoder"]["session_options"]
    assert (session["intra_op_num_threads"], session["inter_op_num_threads"]) == (4, 1)
    assert session["log_id"] == "onnxruntime-genai"
    sampling = GENAI_CONFIG["search"] | {"do_sample": True}
    assert apply(config(search=sampling), Provision(4, 512))["search"] == sampling
    assert GENAI_CONFIG["search"]["top_k"] == 50
    assert "intra_op_num_threads" not in GENAI_CONFIG["model"]["decoder"]["session_options"]


def test_tuning_the_context_and_what_is_reserved_for_it() -> None:
    small = apply(config(), Provision(4, 200))
    assert (small["model"]["context_length"], small["search"]["max_length"]) == (200, 200)
    assert small["search"]["past_present_share_buffer"]
    assert not apply(config(), Provision(4, 512, reserves=False))["search"]["past_present_share_buffer"]
    bare = apply(config(model={"context_length": 512, "vocab_size": 384}, search=None), Provision(2, 300))
    assert bare["model"]["decoder"]["session_options"]["intra_op_num_threads"] == 2
    assert bare["search"] == {"top_k": 1, "max_length": 300}


def test_memory_is_reserved_where_it_is_little(prepared: Prepared) -> None:
    assert choose(prepared, threads=3) == Provision(3, 32768, reserves=False)
    assert choose(prepared, threads=3, context_tokens=4096) == Provision(3, 4096, reserves=True)
    most = RESERVED_BYTES // (24 * 2 * 2 * 64 * 4)
    assert choose(prepared, threads=3, context_tokens=most).reserves
    assert not choose(prepared, threads=3, context_tokens=most + 1).reserves


@pytest.mark.parametrize("tokens", [0, 5, 127, 32769, -1])
def test_contexts_that_the_package_does_not_have(prepared: Prepared, tokens: int) -> None:
    with pytest.raises(UsageError, match="is not possible: the package has 32,768"):
        choose(prepared, threads=3, context_tokens=tokens)


def test_a_package_of_a_tiny_context_has_it(prepared: Prepared) -> None:
    small = replace(prepared, config=replace(prepared.config, context_tokens=64))
    assert choose(small, threads=1) == Provision(1, 64)


def test_notes_say_what_an_application_must_know(prepared: Prepared) -> None:
    grows, greedy = notes(prepared, choose(prepared, threads=1))
    assert "805 MB" in grows
    assert "--context-tokens 10240" in grows
    assert "greedily" in greedy
    [only] = notes(prepared, choose(prepared, threads=1, context_tokens=4096))
    assert only == greedy
    limit, _ = notes(prepared, choose(prepared, threads=1, context_tokens=2048))
    assert "must set max_output_tokens" in limit
