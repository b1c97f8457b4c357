"""genai_config.json: its reader and its writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import EngineFailed
from edgeship.package import DAMAGED, genai_config
from edgeship.package.genai_config import GenaiConfig, Search, parse
from tests.checkpoints import write_json
from tests.packages import GENAI_CONFIG

PATH = Path("folder") / "genai_config.json"
MODEL = {"context_length": 2000, "vocab_size": 384, "eos_token_id": [2, 0]}
SHAPE = {"num_hidden_layers": 1, "num_key_value_heads": 2, "head_size": 16}


def read(model: object = MODEL, **rest: Any) -> GenaiConfig:
    return parse({"model": model, **rest}, PATH, DAMAGED)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_what_a_package_says(tmp_path: Path) -> None:
    write_json(tmp_path / "genai_config.json", GENAI_CONFIG)
    found = genai_config.read(tmp_path, DAMAGED)
    assert (found.folder, found.model_file) == (tmp_path, "model.onnx")
    assert (found.context_tokens, found.vocab_size, found.end_ids) == (512, 384, frozenset({2}))
    assert found.search == Search(False, 1.0, 1.0, 50, 1.0, 512)
    assert (found.provider, found.threads) == ("cpu", None)
    assert found.document == GENAI_CONFIG


@pytest.mark.parametrize("nothing", [{}, {"search": None}, {"search": {"temperature": None, "do_sample": None}}])
def test_what_a_file_leaves_open(nothing: dict[str, Any]) -> None:
    found = read(MODEL | {"decoder": None}, **nothing)
    assert found.search == Search()
    assert (found.provider, found.model_file) == ("cpu", "model.onnx")


def test_what_ends_an_answer() -> None:
    assert read().end_ids == {0, 2}
    assert read(MODEL | {"eos_token_id": 7}).end_ids == {7}
    assert read(MODEL | {"eos_token_id": None}).end_ids == set()


def test_the_provider() -> None:
    def provider(*options: dict[str, Any]) -> str:
        return read(MODEL | {"decoder": {"session_options": {"provider_options": list(options)}}}).provider

    assert provider() == "cpu"
    assert provider({"cuda": {}}) == "cuda"
    assert provider({"DmlExecutionProvider": {}}, {"cpu": {}}) == "dml"


def test_the_caches_shape_and_names() -> None:
    decoder: dict[str, Any] = {**SHAPE, "inputs": {"past_key_names": "past.%d.k"}}
    found = read(MODEL | {"decoder": decoder})
    assert found.cache_shape == (1, 2, 16)
    assert found.cache_names == [("past.0.k", "present.0.key"), ("past_key_values.0.value", "present.0.value")]


def test_layers_differ_where_that_is_stated() -> None:
    assert not read(MODEL | {"decoder": SHAPE}).layers_differ
    states = {"past_conv_names": "state.%d.c"}
    for stated in ({"layer_types": ["conv"]}, {"inputs": states}):
        found = read(MODEL | {"decoder": {**SHAPE, **stated}})
        assert found.layers_differ
    assert found.kept_names("conv", 3) == ("state.3.c", "present.3.conv")
    assert found.kept_names("recurrent", 3) == ("past.3.recurrent", "present.3.recurrent")


def test_no_package(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="this is no package") as caught:
        genai_config.read(tmp_path / "nowhere", DAMAGED)
    assert caught.value.where == str(tmp_path / "nowhere")


@pytest.mark.parametrize("model", [None, {"context_length": 10}, {"context_length": 0, "vocab_size": 5}])
def test_a_config_without_what_we_need(model: object) -> None:
    with pytest.raises(
        EngineFailed,
        match=r"genai_config\.json has (no )?model\.(context_length|vocab_size)\b.* whole number of at least 1",
    ):
        read(model)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"model": []}, "has model [], which is not an object"),
        ({"model": MODEL | {"vocab_size": "384"}}, "has model.vocab_size '384', which is not a whole number"),
        ({"model": MODEL | {"vocab_size": True}}, "has model.vocab_size True, which is not a whole number"),
        ({"model": MODEL | {"eos_token_id": [[2]]}}, "has model.eos_token_id [[2]], which is not a token id, or a"),
        ({"model": MODEL | {"eos_token_id": "</s>"}}, "has model.eos_token_id '</s>', which is not a token id, or a"),
        ({"model": MODEL | {"decoder": "model.onnx"}}, "has model.decoder 'model.onnx', which is not an object"),
        ({"model": MODEL | {"decoder": {"filename": 3}}}, "has model.decoder.filename 3, which is not a text"),
        ({"model": MODEL | {"decoder": {"inputs": []}}}, "has model.decoder.inputs [], which is not an object"),
        (
            {"model": MODEL | {"decoder": {"inputs": {"past_key_names": ["a"]}}}},
            "has model.decoder.inputs.past_key_names ['a'], which is not a text",
        ),
        (
            {"model": MODEL | {"decoder": {"session_options": {"provider_options": ["cuda"]}}}},
            "has model.decoder.session_options.provider_options[0] 'cuda', which is not an object",
        ),
        (
            {"model": MODEL | {"decoder": {"session_options": {"intra_op_num_threads": "4"}}}},
            "has model.decoder.session_options.intra_op_num_threads '4', which is not a whole number",
        ),
        ({"model": MODEL, "search": [1]}, "has search [1], which is not an object"),
        ({"model": MODEL, "search": {"top_k": 2.5}}, "has search.top_k 2.5, which is not a whole number"),
        ({"model": MODEL | {"vocab_size": 0}}, "has model.vocab_size 0, which is not a whole number of at least 1"),
        ({"model": MODEL | {"vocab_size": 10**400}}, "has model.vocab_size 1000"),
        ({"model": MODEL, "search": {"top_p": float("nan")}}, "has search.top_p nan, which is not a number"),
        ({"model": MODEL, "search": {"temperature": 10**400}}, "has search.temperature 1000"),
        ({"model": MODEL, "search": {"do_sample": "yes"}}, "has search.do_sample 'yes', which is not true or false"),
    ],
)
def test_wrong_types_are_told_with_file_field_and_value(document: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineFailed) as caught:
        parse(document, PATH, DAMAGED)
    assert caught.value.what.startswith(f"genai_config.json {said}")
    assert caught.value.where == str(PATH)
    assert "cache verify" in str(caught.value.hint)


def test_a_shape_and_names_that_cannot_be_used() -> None:
    with pytest.raises(EngineFailed, match=r"has no model\.decoder\.head_size, which must be a whole number"):
        _ = read(MODEL | {"decoder": {key: 1 for key in SHAPE if key != "head_size"}}).cache_shape
    for pattern in ("past", "past.%s", "%d.%d", "%"):
        broken = read(MODEL | {"decoder": {**SHAPE, "inputs": {"past_key_names": pattern}}})
        with pytest.raises(EngineFailed, match=r"decoder\.inputs\.past_key_names .* has no %d"):
            _ = broken.cache_names


# --- writing ---------------------------------------------------------------------------------------------------------


def test_threads_and_context_leave_all_else_as_it_is() -> None:
    made = genai_config.with_context(genai_config.with_threads(GENAI_CONFIG, 3), 64)
    found = parse(made, PATH, DAMAGED)
    assert (found.threads, found.context_tokens) == (3, 64)
    decoder = GENAI_CONFIG["model"]["decoder"]
    session = decoder["session_options"] | {"intra_op_num_threads": 3, "inter_op_num_threads": 1}
    model = GENAI_CONFIG["model"] | {"context_length": 64, "decoder": decoder | {"session_options": session}}
    assert made == GENAI_CONFIG | {"model": model}
    assert "intra_op_num_threads" not in decoder["session_options"]


def test_a_configuration_that_says_little_is_written_too() -> None:
    made = genai_config.with_threads({"model": {"decoder": {"session_options": None}}}, 2)
    assert made["model"]["decoder"]["session_options"]["intra_op_num_threads"] == 2
    assert genai_config.with_search({"model": {}, "search": None}, {"top_k": 1})["search"] == {"top_k": 1}


def test_a_configuration_for_no_machine_names_no_threads() -> None:
    assert genai_config.with_threads(genai_config.with_threads(GENAI_CONFIG, 3), None) == GENAI_CONFIG


def test_tokens() -> None:
    made = genai_config.with_tokens(GENAI_CONFIG, bos_id=None, eos_ids=(7, 8), pad_id=None)["model"]
    assert (made.get("bos_token_id"), made["eos_token_id"], made["pad_token_id"]) == (None, [7, 8], 7)
    made = genai_config.with_tokens(GENAI_CONFIG, bos_id=5, eos_ids=(), pad_id=9)["model"]
    assert (made["bos_token_id"], made["eos_token_id"], made["pad_token_id"]) == (5, 2, 0)


def test_what_is_written_for_a_graph_is_read_back() -> None:
    sizes: dict[str, Any] = {"context_tokens": 128, "vocab_size": 9, "hidden_size": 64, "layers": 1, "heads": 4}
    found = parse(genai_config.for_graph("qwen2", **sizes, kv_heads=2, head_size=16), PATH, DAMAGED)
    assert found.model_type == "qwen2"
    assert (found.context_tokens, found.vocab_size, found.cache_shape) == (128, 9, (1, 2, 16))
    assert found.cache_names == [(f"past_key_values.0.{kind}", f"present.0.{kind}") for kind in ("key", "value")]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (Search(), "greedily"),
        (Search(do_sample=True, temperature=0.0), "greedily"),
        (Search(do_sample=True, top_k=1), "greedily"),
        (
            Search(do_sample=True, temperature=0.7, top_p=0.8, top_k=20),
            "by samples (temperature 0.7, top_p 0.8, top_k 20)",
        ),
        (Search(do_sample=True, top_p=0.8), "by samples (top_p 0.8)"),
    ],
)
def test_how_a_package_answers_in_words(search: Search, words: str) -> None:
    assert search.in_words == words
