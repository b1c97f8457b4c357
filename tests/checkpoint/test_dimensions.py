from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship.checkpoint import dimensions, weight_files
from edgeship.checkpoint.dimensions import Dimensions, check_shapes, config_fields, is_tied
from edgeship.checkpoint.dimensions import read_dimensions as read
from edgeship.errors import CheckpointInvalid
from edgeship.system import json_file
from tests import checkpoints

SHAPES: dict[str, tuple[int, ...]] = {name: array.shape for name, array in checkpoints.qwen2_weights().items()}
GPT2_STYLE = {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 9, "n_positions": 32}


PATH = Path("config.json")


def read_dimensions(config: dict[str, Any]) -> Dimensions:
    return read(config_fields(config, PATH))


def check(shapes: dict[str, tuple[int, ...]], *, tied: bool = True, extra_layers: int = 0, **config: Any) -> None:
    dimensions = read_dimensions(checkpoints.qwen2_config(**config))
    check_shapes(shapes, dimensions, tied=tied, extra_layers=extra_layers, where="config.json")


def without(*parts: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in SHAPES.items() if not any(part in name for part in parts)}


def test_sizes_of_the_tiny_model() -> None:
    dimensions = read_dimensions(checkpoints.qwen2_config())
    assert (dimensions.hidden_size, dimensions.layers, dimensions.kv_heads, dimensions.head_size) == (64, 2, 2, 16)
    assert (dimensions.vocab_size, dimensions.context_tokens, dimensions.mlp_size) == (384, 512, 96)
    check(SHAPES)


def test_older_names_and_nested_text_configs_are_read() -> None:
    assert read_dimensions(GPT2_STYLE).context_tokens == 32
    nested = {"model_type": "gemma3", "text_config": checkpoints.qwen2_config()}
    dimensions = read_dimensions(nested)
    assert (dimensions.model_type, dimensions.layers) == ("qwen2", 2)


def test_head_size_is_the_configs_own_where_it_has_one() -> None:
    assert read_dimensions(checkpoints.qwen2_config(head_dim=32)).head_size == 32
    assert read_dimensions(checkpoints.qwen2_config(head_dim=None)).head_size == 16


def test_all_missing_sizes_are_listed() -> None:
    config = checkpoints.qwen2_config(hidden_size=None, vocab_size=None)
    del config["num_hidden_layers"]
    with pytest.raises(CheckpointInvalid, match="hidden_size, num_hidden_layers, vocab_size"):
        read_dimensions(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": "64"}, "has hidden_size '64', which is not a whole number"),
        ({"num_hidden_layers": True}, "has num_hidden_layers True, which is not a whole number"),
        ({"num_hidden_layers": 10**8}, "has num_hidden_layers 100000000, which is not a whole number of at most 10000"),
        ({"vocab_size": 0}, "has vocab_size 0, which is not a whole number of at least 1"),
        ({"num_key_value_heads": [2, 2]}, r"has num_key_value_heads \[2, 2\], which is not a whole number"),
        ({"num_key_value_heads": 3}, "has num_attention_heads 4, which is no multiple of num_key_value_heads 3"),
        (
            {"num_attention_heads": 6, "num_key_value_heads": 2},
            "has no head_dim, and hidden_size 64 is no multiple of 6",
        ),
        ({"max_position_embeddings": 1e30}, "has max_position_embeddings 1e[+]30, which is not a whole number"),
        ({"max_position_embeddings": 10**400}, "has max_position_embeddings 1000"),
        ({"head_dim": -16}, "has head_dim -16, which is not a whole number of at least 1"),
        ({"text_config": []}, r"has text_config \[\], which is not an object"),
        ({"text_config": {"hidden_size": "8"}}, r"has text_config\.hidden_size '8', which is not a whole number"),
        ({"layer_types": []}, "has layer_types for 0 layers, and says that there are 2 layers"),
        ({"layer_types": ["full_attention"] * 3}, "has layer_types for 3 layers, and says that there are 2 layers"),
        ({"layer_types": "full_attention"}, "has layer_types 'full_attention', which is not a list"),
        ({"layer_types": [1, 2]}, r"has layer_types \[1, 2\], which is not a list of texts"),
    ],
)
def test_a_size_that_is_wrong_is_told_with_its_value(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointInvalid, match=said):
        read_dimensions(checkpoints.qwen2_config(**change))


def test_a_flag_that_is_none_is_told_with_its_value() -> None:
    with pytest.raises(CheckpointInvalid, match="has tie_word_embeddings 'yes', which is not true or false"):
        is_tied(config_fields({"tie_word_embeddings": "yes"}, PATH), {})


def test_far_more_layers_than_there_are_take_no_memory() -> None:
    with pytest.raises(CheckpointInvalid, match=r"says 10000 layers, but model\.layers\.2 is missing"):
        check(SHAPES, num_hidden_layers=10_000)
    with pytest.raises(CheckpointInvalid, match=r"says 2 layers, but the weights also hold model\.layers\.999999999"):
        check(SHAPES | {"model.layers.999999999.mlp.up_proj.weight": (96, 64)})


def test_the_rows_of_the_embedding_are_the_vocabulary() -> None:
    message = r"tensor model.embed_tokens.weight is \[384, 64\], but config.json makes it \[400, 64\]"
    with pytest.raises(CheckpointInvalid, match=message):
        check(SHAPES, vocab_size=400)


def test_its_columns_are_the_hidden_size() -> None:
    with pytest.raises(CheckpointInvalid, match=r"model.embed_tokens.weight is \[384, 64\]"):
        check(SHAPES, hidden_size=128)


def test_too_few_and_too_many_layers() -> None:
    with pytest.raises(CheckpointInvalid, match=r"says 3 layers, but model.layers.2 is missing"):
        check(SHAPES, num_hidden_layers=3)
    with pytest.raises(CheckpointInvalid, match=r"says 1 layers, but the weights also hold model.layers.1"):
        check(SHAPES, num_hidden_layers=1)
    check(SHAPES, num_hidden_layers=1, extra_layers=1)


LOOKING: dict[str, Any] = {
    "architectures": ["MllamaForCausalLM"],
    "model_type": "mllama_text_model",
    "tie_word_embeddings": False,
}


def test_layers_that_look_at_pictures_are_not_counted_and_keep_their_numbers() -> None:
    config = checkpoints.qwen2_config(**LOOKING, num_hidden_layers=5, cross_attention_layers=[0, 3, 8])
    dimensions = read_dimensions(config)
    assert (dimensions.layers, dimensions.stored_layers, dimensions.skipped) == (3, (1, 2, 4), frozenset({0, 3}))
    with pytest.raises(CheckpointInvalid, match="cross_attention_layers with all 1 layers, so that none reads text"):
        read_dimensions(config | {"num_hidden_layers": 1})
    # Other families do not look at the field.
    assert read_dimensions(checkpoints.qwen2_config(cross_attention_layers=[0])).layers == 2


def test_an_embedding_may_have_rows_for_pictures_in_families_that_have_them() -> None:
    embedding, output = (checkpoints.VOCAB + 8, checkpoints.HIDDEN), (checkpoints.VOCAB, checkpoints.HIDDEN)
    looking = LOOKING | {"num_hidden_layers": 3, "cross_attention_layers": [1]}
    shapes = {name.replace("layers.1.", "layers.2."): shape for name, shape in SHAPES.items()}
    more = shapes | {"model.embed_tokens.weight": embedding, "lm_head.weight": output}
    check(more, tied=False, **looking)
    with pytest.raises(CheckpointInvalid, match=r"embed_tokens.weight is \[384, 64\], but config.json makes it \[392"):
        check(more | {"model.embed_tokens.weight": output}, tied=False, **looking)
    with pytest.raises(CheckpointInvalid, match=r"lm_head.weight is \[392, 64\], but config.json makes it \[384, 64\]"):
        check(more | {"lm_head.weight": embedding}, tied=False, **looking)
    with pytest.raises(CheckpointInvalid, match=r"says 3 layers, but model.layers.2 is missing"):
        check({name: shape for name, shape in more.items() if "layers.2." not in name}, tied=False, **looking)
    with pytest.raises(CheckpointInvalid, match=r"embed_tokens.weight is \[392, 64\], but config.json makes it \[384"):
        check(SHAPES | {"model.embed_tokens.weight": embedding, "lm_head.weight": output}, tied=False)


def test_a_layers_missing_tensor_is_named() -> None:
    with pytest.raises(CheckpointInvalid, match=r"tensor model.layers.1.mlp.up_proj.weight is missing"):
        check(without("layers.1.mlp.up_proj"))


def test_families_of_unlike_layers_may_leave_tensors_out() -> None:
    check(without("layers.1.mlp.up_proj"), model_type="lfm2")


@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        ({"num_key_value_heads": 4}, "self_attn.k_proj.weight"),
        ({"intermediate_size": 100}, "mlp.down_proj.weight"),
        ({"head_dim": 32}, "self_attn.k_proj.weight"),
    ],
)
def test_a_layers_tensor_of_another_shape_is_named(change: dict[str, Any], tensor: str) -> None:
    with pytest.raises(CheckpointInvalid, match=f"tensor model.layers.0.{tensor} is"):
        check(SHAPES, **change)


def test_an_output_layer_that_is_neither_tied_nor_stored() -> None:
    with pytest.raises(CheckpointInvalid, match=r"tensor lm_head\.weight is missing"):
        check(SHAPES, tied=False)
    check(SHAPES | {"lm_head.weight": (384, 64)}, tied=False)


@pytest.mark.parametrize("rows", [380, 400])
def test_an_output_layer_with_other_rows_than_the_embedding(rows: int) -> None:
    said = rf"tensor lm_head\.weight is \[{rows}, 64\], but model\.embed_tokens\.weight is \[384, 64\]"
    with pytest.raises(CheckpointInvalid, match=said):
        check(SHAPES | {"lm_head.weight": (rows, 64)}, tied=False)


def test_buffers_of_old_checkpoints_need_not_be_in_every_layer() -> None:
    check(SHAPES | {"model.layers.0.self_attn.rotary_emb.inv_freq": (8,)})


def test_other_towers_do_not_count_as_layers() -> None:
    shapes = {f"model.language_{name}": shape for name, shape in SHAPES.items()}
    check(shapes | {f"model.vision_tower.layers.{index}.w": (3,) for index in range(9)})


def test_weights_in_unknown_names_are_not_judged() -> None:
    check({"decoder.words": (3, 3)})


@pytest.mark.parametrize(
    ("config", "names", "tied"),
    [
        ({"tie_word_embeddings": True}, ["lm_head.weight"], True),
        ({"tie_word_embeddings": False}, [], False),
        ({"text_config": {"tie_word_embeddings": True}}, ["lm_head.weight"], True),
        ({}, ["model.embed_tokens.weight"], True),
        ({}, ["model.embed_tokens.weight", "lm_head.weight"], False),
    ],
)
def test_tied_by_the_config_or_by_what_is_stored(config: dict[str, Any], names: list[str], tied: bool) -> None:
    assert is_tied(config_fields(config, PATH), dict.fromkeys(names)) is tied


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("Llama", {}),
        ("Qwen3", {"head_dim": 32}),
        ("Gemma2", {"head_dim": 32}),
        ("Phi3", {}),
        ("Lfm2", {"layer_types": ["conv", "full_attention"]}),
    ],
)
def test_what_transformers_saves_agrees_with_its_own_config(
    tmp_path: Path, family: str, changes: dict[str, Any]
) -> None:
    import transformers

    plain = {key: value for key, value in checkpoints.qwen2_config().items() if key.endswith(("_size", "_heads"))}
    config = getattr(transformers, f"{family}Config")(
        **plain,
        num_hidden_layers=2,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
        **changes,
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    model.save_pretrained(tmp_path)
    weights = weight_files.find_weights(tmp_path)
    saved = json_file.read_object(tmp_path / "config.json", dimensions.DAMAGED)
    tied = is_tied(config_fields(saved, PATH), weights.tensors)
    shapes = {name: tensor.shape for name, tensor in weights.tensors.items()}
    check_shapes(shapes, read_dimensions(saved), tied=tied, extra_layers=0, where="config.json")
    assert weights.parameters(tied=tied, dtype="float32") == sum(weight.numel() for weight in model.parameters())
