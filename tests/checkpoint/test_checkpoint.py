from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgeship.checkpoint import (
    Checkpoint,
    hub,
    open_checkpoint,
    require_template,
    scan_weights,
)
from edgeship.checkpoint.inspection import inspection
from edgeship.checkpoint.licence import card_licence
from edgeship.errors import (
    AdapterInvalid,
    ArchitectureUnknown,
    CheckpointInvalid,
    CheckpointNotFound,
    HubFailed,
    NotFound,
    PickleRefused,
    TemplateMissing,
    UsageError,
    WeightsDamaged,
)
from edgeship.package import tokenizer
from edgeship.package.template import render
from edgeship.system.json_file import Complaint
from tests import checkpoints

COMPLAINT = Complaint(CheckpointInvalid, "Copy it again.")
HELLO = [{"role": "user", "content": "hello world"}]


def test_what_a_checkpoint_is(tiny: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    weights = checkpoints.qwen2_weights()
    assert (checkpoint.source, checkpoint.revision, checkpoint.folder) == (str(tiny), None, tiny)
    assert (checkpoint.name, checkpoint.architecture, checkpoint.model_type) == ("tiny", "Qwen2ForCausalLM", "qwen2")
    assert checkpoint.parameters == sum(array.size for array in weights.values())
    assert (checkpoint.dtype, checkpoint.vocab_size, checkpoint.context_tokens) == ("float32", 384, 512)
    assert (checkpoint.tied_embeddings, checkpoint.hidden_size, checkpoint.layers) == (True, 64, 2)
    assert (checkpoint.kv_heads, checkpoint.head_size) == (2, 16)
    assert checkpoint.weights_bytes == (tiny / "model.safetensors").stat().st_size
    assert set(checkpoint.tensors) == set(weights)
    assert (checkpoint.stop.eos_ids, checkpoint.stop.bos_id, checkpoint.stop.pad_id) == ((2, 0), None, 0)
    assert (checkpoint.licence, checkpoint.adapter, checkpoint.pickle) == ("apache-2.0", None, False)
    assert require_template(checkpoint) == checkpoints.CHATML
    assert checkpoint.generation["do_sample"] is False


def test_an_inspection_is_plain_json(tiny: Path, tiny_adapter: Path) -> None:
    found = inspection(open_checkpoint(str(tiny), adapter=tiny_adapter))
    assert json.loads(json.dumps(found)) == found
    assert found["eos"] == [{"id": 2, "text": "<|im_end|>"}, {"id": 0, "text": "<|endoftext|>"}]
    assert (found["bos"], found["chat_template"], found["quantization"]) == (None, True, None)
    assert found["adapter"]["targets"] == ["down_proj", "q_proj"]
    assert "generation_config.json" in found["disagreements"][0]


def test_a_checkpoint_without_a_template(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(checkpoints.make_checkpoint(tmp_path / "c", template=None)))
    assert checkpoint.chat_template is None
    with pytest.raises(TemplateMissing) as caught:
        require_template(checkpoint)
    assert "--chat-template FILE" in (caught.value.hint or "")
    path = tmp_path / "mine.jinja"
    path.write_text(checkpoints.CHATML)
    assert require_template(open_checkpoint(checkpoint.source, chat_template=path)) == checkpoints.CHATML


# --- the digest ----------------------------------------------------------------------------------------------------


def test_the_digest_is_of_contents_and_not_of_places_or_times(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny, copy)
    os.utime(copy / "config.json", (1, 1))
    (copy / "training.log").write_text("not part of it")
    assert open_checkpoint(str(copy)).digest == open_checkpoint(str(tiny)).digest


def _digest_after(tiny: Path, name: str, content: bytes) -> str:
    path = tiny / name
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(content)
    digest = open_checkpoint(str(tiny)).digest
    if before is None:
        path.unlink()
    else:
        path.write_bytes(before)
    return digest


def test_the_digest_changes_with_everything_that_decides_a_build(tiny: Path, tiny_adapter: Path) -> None:
    weights = bytearray((tiny / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    changes = {
        "config.json": (tiny / "config.json").read_bytes() + b" ",
        "generation_config.json": b"{}",
        "tokenizer_config.json": (tiny / "tokenizer_config.json").read_bytes() + b" ",
        "special_tokens_map.json": b"{}",
        "chat_template.jinja": checkpoints.CHATML.encode() + b" ",
        "model.safetensors": bytes(weights),
    }
    digests = [_digest_after(tiny, name, content) for name, content in changes.items()]
    digests += [open_checkpoint(str(tiny)).digest, open_checkpoint(str(tiny), adapter=tiny_adapter).digest]
    config = json.loads((tiny_adapter / "adapter_config.json").read_text())
    checkpoints.write_json(tiny_adapter / "adapter_config.json", config | {"lora_alpha": 9})
    digests.append(open_checkpoint(str(tiny), adapter=tiny_adapter).digest)
    assert len(set(digests)) == len(digests)


def test_one_template_has_one_digest_wherever_it_lies(tiny: Path) -> None:
    beside = open_checkpoint(str(tiny))
    moved = (tiny / "chat_template.jinja").rename(tiny.parent / "given.jinja")
    assert open_checkpoint(str(tiny), chat_template=moved).digest == beside.digest


def _written_again(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def _written_with_its_old_times(path: Path) -> None:
    stat = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _exchanged(path: Path) -> None:
    (path.parent / "copy").write_bytes(path.read_bytes())
    (path.parent / "copy").replace(path)


@pytest.mark.parametrize("change", [_written_again, _written_with_its_old_times, _exchanged, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "adapter/adapter_model.safetensors"])
def test_a_file_that_is_written_to_is_noticed_also_where_its_contents_come_back(
    tiny: Path, tiny_adapter: Path, name: str, change: Callable[[Path], None]
) -> None:
    checkpoint = open_checkpoint(str(tiny), adapter=tiny_adapter)
    (tiny / "training.log").write_text("not part of it")
    checkpoint.require_unchanged()
    path = tiny_adapter / Path(name).name if "/" in name else tiny / name
    change(path)
    with pytest.raises(CheckpointInvalid, match=f"it was changed while it was read: {name}"):
        checkpoint.require_unchanged()


# --- what is no checkpoint -----------------------------------------------------------------------------------------


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="there is no folder") as caught:
        open_checkpoint(str(tmp_path / "none"))
    assert caught.value.exit_code == 4


def test_a_file_instead_of_a_folder(tiny: Path) -> None:
    with pytest.raises(CheckpointInvalid, match="is a file"):
        open_checkpoint(str(tiny / "model.safetensors"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("model.gguf", "llama.cpp"), ("model.nemo", "NeMo"), ("edgeship.json", "ONNX"), ("notes.txt", "A checkpoint is")],
)
def test_a_folder_of_something_else_says_what_it_holds(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointInvalid, match=rf"no config\.json; it holds {name}") as caught:
        open_checkpoint(str(tmp_path))
    assert hint in (caught.value.hint or "")


def test_an_adapter_instead_of_a_checkpoint_says_what_to_type(
    tiny: Path, tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hint() -> str:
        with pytest.raises(CheckpointInvalid) as caught:
            open_checkpoint(str(tiny_adapter))
        return caught.value.hint or ""

    assert f"{tiny} --adapter {tiny_adapter}" in hint()  # "tiny" lies in the adapter folder's parent
    nested = tiny.parent / "bases"
    nested.mkdir()
    monkeypatch.chdir(nested)
    tiny.rename(nested / "tiny")
    assert f"{nested / 'tiny'} --adapter {tiny_adapter}" in hint()
    shutil.rmtree(nested / "tiny")
    assert f"ship tiny --adapter {tiny_adapter}`" in hint()


@pytest.mark.parametrize("key", ["architectures", "model_type", "hidden_size"])
def test_a_config_without_what_is_needed(tmp_path: Path, key: str) -> None:
    config = {name: value for name, value in checkpoints.qwen2_config().items() if name != key}
    folder = checkpoints.make_checkpoint(tmp_path / "c", config=config)
    with pytest.raises(CheckpointInvalid, match=rf"config\.json lacks .*{key}"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_damaged_json_is_told_with_its_line(tiny: Path, name: str) -> None:
    (tiny / name).write_text('{\n"model_type": "qwen2"\n"x": 1}')
    with pytest.raises(CheckpointInvalid, match=rf"{name} is damaged: line 3"):
        open_checkpoint(str(tiny))


def test_weights_that_are_truncated_missing_or_pickled(tiny: Path) -> None:
    path = tiny / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsDamaged, match=r"model\.safetensors is damaged: it is truncated"):
        open_checkpoint(str(tiny))
    path.unlink()
    with pytest.raises(CheckpointInvalid, match="there are no weights"):
        open_checkpoint(str(tiny))
    (tiny / "pytorch_model.bin").write_bytes(whole)
    with pytest.raises(PickleRefused, match=r"pytorch_model\.bin"):
        open_checkpoint(str(tiny))
    allowed = open_checkpoint(str(tiny), allow_pickle=True)
    assert (allowed.pickle, allowed.parameters) == (True, len(whole) // 4)
    scan_weights(allowed)


def test_weights_that_contradict_the_config(tmp_path: Path) -> None:
    folder = checkpoints.make_checkpoint(tmp_path / "c", config=checkpoints.qwen2_config(vocab_size=400))
    with pytest.raises(CheckpointInvalid, match=r"tensor model\.embed_tokens\.weight"):
        open_checkpoint(str(folder))


def test_an_adapter_of_another_base(tiny: Path, tmp_path: Path) -> None:
    folder = checkpoints.make_adapter(tmp_path / "a")
    tensors = {
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((4, 32), np.float32),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": np.ones((64, 4), np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterInvalid, match="the adapter is of another base"):
        open_checkpoint(str(tiny), adapter=folder)


# --- weights, read whole -------------------------------------------------------------------------------------------


def _with_weights(folder: Path, dtype: Any = np.float32, **changes: float) -> Checkpoint:
    """The tiny checkpoint with one element of the named tensors replaced."""
    weights = {name: array.astype(dtype) for name, array in checkpoints.qwen2_weights().items()}
    for name, value in changes.items():
        weights[name].reshape(-1)[5] = value
    save_file(weights, folder / "model.safetensors")
    return open_checkpoint(str(folder))


def test_sane_weights_pass_and_progress_reaches_the_end(tiny: Path, tiny_adapter: Path) -> None:
    told: list[float] = []

    def progress(message: str, part: float | None) -> None:
        assert message == "checking the weights"
        told.append(part or 0.0)

    scan_weights(open_checkpoint(str(tiny), adapter=tiny_adapter), progress)
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_nan_is_found_and_its_tensor_named(tiny: Path, dtype: Any) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(WeightsDamaged, match=rf"tensor {name} holds nan at element 5") as caught:
        scan_weights(_with_weights(tiny, dtype, **{name: np.nan}))
    assert caught.value.where == str(tiny / "model.safetensors")


def test_a_flipped_exponent_bit_is_found(tiny: Path) -> None:
    path = tiny / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40  # the highest exponent bit of the last float32
    path.write_bytes(content)
    with pytest.raises(WeightsDamaged, match="no trained weight looks like that"):
        scan_weights(open_checkpoint(str(tiny)))


def test_the_adapters_tensors_are_read_as_well(tiny: Path, tiny_adapter: Path) -> None:
    path = tiny_adapter / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(np.inf).tobytes()
    path.write_bytes(content)
    with pytest.raises(WeightsDamaged, match=r"lora_B\.weight holds inf"):
        scan_weights(open_checkpoint(str(tiny), adapter=tiny_adapter))


# --- sources -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fetched(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, bool]]:
    """What was asked of the Hub, which has the tiny checkpoint under every name."""
    asked: list[tuple[str, str | None, bool]] = []

    def fetch(repo: str, revision: str | None, *, allow_pickle: bool, progress: Any) -> tuple[Path, str]:
        del progress
        asked.append((repo, revision, allow_pickle))
        return tiny, "c" * 40

    monkeypatch.setattr(hub, "fetch", fetch)
    return asked


def test_a_hub_id_is_fetched_at_its_revision(fetched: list[Any]) -> None:
    checkpoint = open_checkpoint("org/My-Model.v2@refs/pr/1")
    assert fetched == [("org/My-Model.v2", "refs/pr/1", False)]
    assert (checkpoint.name, checkpoint.revision) == ("My-Model.v2", "c" * 40)
    open_checkpoint("org/name", revision="main", allow_pickle=True)
    assert fetched[1:] == [("org/name", "main", True)]


def test_a_folder_wins_over_a_hub_id(tiny: Path, fetched: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent.parent)
    assert open_checkpoint(f"{tiny.parent.name}/tiny").revision is None
    assert fetched == []


def test_revisions_that_make_no_sense(tiny: Path, fetched: list[Any]) -> None:
    with pytest.raises(UsageError, match="is a folder and has no revision 'main'"):
        open_checkpoint(str(tiny), revision="main")
    with pytest.raises(UsageError, match="two revisions are given: 'a' and 'b'"):
        open_checkpoint("org/name@a", revision="b")
    assert fetched == []


@pytest.mark.parametrize("source", ["name", "a/b/c", "../x", "./org/name", "org/name@", "org /name", "", "-x/y"])
def test_what_is_neither_a_folder_nor_a_hub_id(source: str, fetched: list[Any], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(CheckpointNotFound, match=r"there is no folder"):
            open_checkpoint(source)
    assert fetched == []


@pytest.mark.parametrize("error", [CheckpointNotFound, HubFailed])
def test_a_failed_fetch_says_that_there_is_no_folder_either(
    error: type[CheckpointNotFound | HubFailed], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*args: object, **options: object) -> None:
        del args, options
        raise error("the Hub has no model org/name", where="hub", hint="look")

    monkeypatch.setattr(hub, "fetch", fetch)
    with pytest.raises(error, match="there is no folder 'org/name' here, and the Hub has no model") as caught:
        open_checkpoint("org/name")
    assert (caught.value.where, caught.value.hint) == ("hub", "look")


# --- the licence ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\r\nlicense: 'mit'\r\ntags: []\r\n---\r\n", "mit"),
        ("---\ntags:\n- x\nlicense:\n- mit\n---\n", "mit"),
        ("---\nlicense: other\nlicense_name: qwen-research\n---\n", "qwen-research"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense:\nlanguage: en\n---\n", None),
        ("license: mit\n", None),
        ("", None),
        ("---\nlicense: mit\n" + "x\n" * 9, None),
        # What takes minutes where a reader looks at everything once more for each character.
        pytest.param("---\n" + "\n" * 400_000, None, id="empty lines"),
        pytest.param("---\nlicense: a" + " " * 400_000 + "b\n---\n", "a" + " " * 400_000 + "b", id="spaces"),
    ],
)
def test_the_licence_on_a_model_card(card: str, licence: str | None) -> None:
    assert card_licence(card) == licence


def test_where_else_a_licence_is_looked_for(tiny: Path) -> None:
    (tiny / "README.md").unlink()
    assert open_checkpoint(str(tiny)).licence is None
    (tiny / "LICENSE").write_text("\n  MIT License\n\nPermission ...")
    assert open_checkpoint(str(tiny)).licence == "MIT License"
    checkpoints.write_json(tiny / "config.json", checkpoints.qwen2_config(license="llama3"))
    assert open_checkpoint(str(tiny)).licence == "llama3"


def test_a_checkpoint_cannot_be_changed(tiny: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    with pytest.raises(dataclasses.FrozenInstanceError):
        checkpoint.name = "other"  # type: ignore[misc]


def test_an_adapter_brings_new_tokens_with_their_rows(tiny: Path, tiny_adapter: Path) -> None:
    tokenizer = json.loads((tiny / "tokenizer.json").read_text())
    end = tokenizer["added_tokens"][0] | {"id": checkpoints.VOCAB, "content": "<|end|>"}
    checkpoints.write_json(
        tiny_adapter / "tokenizer.json", tokenizer | {"added_tokens": [*tokenizer["added_tokens"], end]}
    )
    checkpoints.write_json(tiny_adapter / "tokenizer_config.json", {"eos_token": "<|end|>"})
    with pytest.raises(CheckpointInvalid, match=r"<\|end\|> \(384\) is outside the model's vocabulary of 384"):
        open_checkpoint(str(tiny), adapter=tiny_adapter)
    path = tiny_adapter / "adapter_model.safetensors"
    rows = {"base_model.model.model.embed_tokens.weight": np.ones((checkpoints.VOCAB + 1, 64), np.float32)}
    save_file(load_file(path) | rows, path)
    checkpoint = open_checkpoint(str(tiny), adapter=tiny_adapter)
    assert (checkpoint.vocab_size, checkpoint.stop.eos_ids[0]) == (checkpoints.VOCAB + 1, checkpoints.VOCAB)
    assert checkpoint.tokenizer.folder == tiny_adapter
    assert checkpoint.chat_template == checkpoints.CHATML  # the base's, as none was saved with the adapter
    assert checkpoint.digest != open_checkpoint(str(tiny)).digest


ASKS_FIRST = "{{ bos_token or '' }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"


def _save_tokenizer(folder: Path, config: dict[str, Any], base: Path) -> None:
    """What `tokenizer.save_pretrained(folder)` leaves beside an adapter."""
    shutil.copyfile(base / "tokenizer.json", folder / "tokenizer.json")
    checkpoints.write_json(folder / "tokenizer_config.json", {"tokenizer_class": "TokenizersBackend", **config})


@pytest.mark.parametrize(
    "stated",
    [
        ASKS_FIRST,
        [{"name": "tool_use", "template": "t"}, {"name": "default", "template": ASKS_FIRST}],
        {"default": ASKS_FIRST, "rag": "r"},
        [{"name": "mine", "template": ASKS_FIRST}],
    ],
    ids=["text", "list", "object", "the only one"],
)
def test_the_template_saved_in_an_adapters_tokenizer_config(tiny: Path, tiny_adapter: Path, stated: object) -> None:
    """Where transformers before 4.51 saves it, beside the same tokens as the base's."""
    _save_tokenizer(tiny_adapter, {"eos_token": "<|im_end|>", "chat_template": stated}, tiny)
    assert open_checkpoint(str(tiny), adapter=tiny_adapter).chat_template == ASKS_FIRST
    (tiny / "chat_template.jinja").unlink()
    assert open_checkpoint(str(tiny), adapter=tiny_adapter).chat_template == ASKS_FIRST


@pytest.mark.parametrize("place", ["chat_template.json", "additional_chat_templates/mine.jinja"])
def test_the_other_places_of_a_template(tiny: Path, tiny_adapter: Path, place: str) -> None:
    path = tiny_adapter / place
    path.parent.mkdir(exist_ok=True)
    content = json.dumps({"chat_template": ASKS_FIRST}) if path.suffix == ".json" else ASKS_FIRST
    path.write_text(content, encoding="utf-8")
    assert open_checkpoint(str(tiny), adapter=tiny_adapter).chat_template == ASKS_FIRST


def test_several_templates_of_which_none_is_the_default(tiny: Path) -> None:
    (tiny / "chat_template.jinja").unlink()
    others = tiny / "additional_chat_templates"
    others.mkdir()
    for name in ("tool_use", "rag"):
        (others / f"{name}.jinja").write_text(f"{name} {ASKS_FIRST}", encoding="utf-8")
    checkpoint = open_checkpoint(str(tiny))
    with pytest.raises(TemplateMissing, match=r"none is called 'default': rag, tool_use") as caught:
        require_template(checkpoint)
    assert "--chat-template rag" in (caught.value.hint or "")
    assert open_checkpoint(str(tiny), chat_template=Path("rag")).chat_template == f"rag {ASKS_FIRST}"


def test_variables_of_the_template_become_part_of_it(tiny: Path) -> None:
    (tiny / "chat_template.jinja").write_text("{{ enable_thinking }}" + ASKS_FIRST, encoding="utf-8")
    plain, silent = (open_checkpoint(str(tiny), variables=given) for given in ({}, {"enable_thinking": False}))
    assert render(require_template(silent), HELLO, special_tokens={}).startswith("False")
    said = render(require_template(silent), HELLO, special_tokens={}, variables={"enable_thinking": "on"})
    assert said.startswith("on")
    assert plain.digest != silent.digest


def test_special_and_stop_tokens_of_an_adapter_count_before_the_bases(tiny: Path, tiny_adapter: Path) -> None:
    _save_tokenizer(tiny_adapter, {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>"}, tiny)
    checkpoints.write_json(tiny_adapter / "generation_config.json", {"eos_token_id": 1, "do_sample": True})
    checkpoint = open_checkpoint(str(tiny), adapter=tiny_adapter)
    assert checkpoint.special_tokens == {"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>"}
    assert (checkpoint.stop.bos_id, checkpoint.stop.eos_ids) == (1, (0, 1, 2))
    assert checkpoint.generation == {"eos_token_id": 1, "do_sample": True}
    digests = {checkpoint.digest}
    for name, value in (("generation_config.json", {}), ("tokenizer_config.json", {"eos_token": "<|im_end|>"})):
        checkpoints.write_json(tiny_adapter / name, value)
        digests.add(open_checkpoint(str(tiny), adapter=tiny_adapter).digest)
    assert len(digests) == 3


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_part_of_a_tokenizer_lies_over_the_bases(tiny: Path, tiny_adapter: Path, tmp_path: Path, name: str) -> None:
    checkpoints.write_json(tiny / "special_tokens_map.json", {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"})
    checkpoints.write_json(tiny_adapter / name, {"eos_token": "<|endoftext|>"})
    checkpoint = open_checkpoint(str(tiny), adapter=tiny_adapter)
    tokens = {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    assert (checkpoint.tokenizer.folder, checkpoint.special_tokens) == (tiny, tokens)
    copy = tmp_path / "copy"
    copy.mkdir()
    checkpoint.tokenizer.copy_to(copy)
    assert tokenizer.read(copy, COMPLAINT).special_tokens == tokens
    before = checkpoint.digest
    checkpoints.write_json(tiny_adapter / name, {"eos_token": "<|im_end|>"})
    assert open_checkpoint(str(tiny), adapter=tiny_adapter).digest != before


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {"eos_token": "<|endoftext|>", "chat_template": ASKS_FIRST},
        {"bos_token": "<|im_start|>", "eos_token": {"__type": "AddedToken", "content": "<|im_end|>"}},
        {"bos_token": None, "eos_token": "<|im_end|>", "chat_template": {"default": ASKS_FIRST}},
    ],
)
@pytest.mark.parametrize("beside", [{}, {"chat_template.jinja": "{{ bos_token }}" + ASKS_FIRST}])
def test_the_conversation_is_that_of_autotokenizer_of_the_adapter(
    tiny: Path, tiny_adapter: Path, config: dict[str, Any], beside: dict[str, str]
) -> None:
    from transformers import AutoTokenizer

    _save_tokenizer(tiny_adapter, config, tiny)
    checkpoints.write_json(tiny_adapter / "special_tokens_map.json", {"pad_token": "<|im_start|>"})
    for name, content in beside.items():
        (tiny_adapter / name).write_text(content, encoding="utf-8")
    theirs = AutoTokenizer.from_pretrained(tiny_adapter)
    ours = open_checkpoint(str(tiny), adapter=tiny_adapter)
    assert ours.special_tokens == theirs.special_tokens_map
    assert ours.chat_template == (theirs.get_chat_template() if theirs.chat_template else checkpoints.CHATML)
    messages = [{"role": "user", "content": "hello world"}]
    text = render(require_template(ours), messages, special_tokens=ours.special_tokens)
    prompt = theirs.apply_chat_template(
        messages, chat_template=ours.chat_template, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    assert ours.tokenizer.load().encode(text, special=False) == list(prompt["input_ids"])


def test_an_adapter_brings_its_name_and_its_template(tiny: Path, tiny_adapter: Path) -> None:
    assert open_checkpoint(str(tiny), adapter=tiny_adapter).name == "tiny-tiny-adapter"
    assert open_checkpoint(str(tiny), adapter=tiny_adapter).chat_template == checkpoints.CHATML
    trained_with = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (tiny_adapter / "chat_template.jinja").write_text(trained_with, encoding="utf-8")
    assert open_checkpoint(str(tiny), adapter=tiny_adapter).chat_template == trained_with
    (tiny.parent / "given.jinja").write_text("{{ messages }}", encoding="utf-8")
    explicit = open_checkpoint(str(tiny), adapter=tiny_adapter, chat_template=tiny.parent / "given.jinja")
    assert explicit.chat_template == "{{ messages }}"


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"temperature": "0.7"}, "temperature '0.7', which is not a number of at least 0"),
        ({"temperature": float("nan")}, "temperature nan, which is not a number of at least 0"),
        ({"top_p": 1.5}, "top_p 1.5, which is not a number of at least 0 and of at most 1"),
        ({"top_k": 20.0}, "top_k 20.0, which is not a whole number"),
        ({"repetition_penalty": 0}, "repetition_penalty 0, which is not a number above 0"),
        ({"do_sample": "yes"}, "do_sample 'yes', which is not true or false"),
        ({"max_length": 10**30}, "max_length 1000000000000000000000000000000, which is not a whole number of at most"),
        ({"eos_token_id": "2"}, "eos_token_id '2', which is not a token id, or a list of them"),
    ],
)
def test_sampling_that_is_none_is_told_before_anything_is_built(tiny: Path, stated: dict[str, Any], said: str) -> None:
    checkpoints.write_json(tiny / "generation_config.json", stated)
    with pytest.raises(CheckpointInvalid, match=f"generation_config.json has {re.escape(said)}"):
        open_checkpoint(str(tiny))


def wrapper(**changes: Any) -> dict[str, Any]:
    config = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "vision_config": {}}
    return config | changes


@pytest.mark.parametrize(
    "config",
    [
        wrapper(),
        wrapper(text_config={"hidden_size": 7}),
        wrapper(text_config=checkpoints.qwen2_config(hidden_size=128)),
        checkpoints.qwen2_config(architectures=["SomethingForCausalLM"], hidden_size=128),
        {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": 64},
    ],
)
def test_an_unknown_architecture_is_named_before_its_shapes(config: dict[str, Any], tiny: Path) -> None:
    checkpoints.write_json(tiny / "config.json", config)
    with pytest.raises(ArchitectureUnknown, match=f"knows the architecture {config['architectures'][0]}") as caught:
        open_checkpoint(str(tiny))
    assert ("a model with vision" in caught.value.what) == ("vision_config" in config)


def test_a_tokenizer_of_sentencepiece_alone_is_told_how_to_be_converted(tiny: Path) -> None:
    (tiny / "tokenizer.json").rename(tiny / "tokenizer.model")
    with pytest.raises(CheckpointInvalid, match=r"there is no tokenizer\.json") as caught:
        open_checkpoint(str(tiny))
    hint = caught.value.hint or ""
    assert "sentencepiece" in hint
    _, _, command = hint.partition("; ")
    python, option, code, folder = shlex.split(command)
    assert (python, option, folder) == (sys.executable, "-c", str(tiny))
    compile(code, "hint", "exec")


@pytest.mark.parametrize("name", ["n" * 300, "a/" * 3000, "a\0b"])
def test_what_no_folder_can_be_called_is_not_there(tiny: Path, name: str) -> None:
    with pytest.raises(CheckpointNotFound):
        open_checkpoint(name)
    with pytest.raises(NotFound, match="no adapter folder"):
        open_checkpoint(str(tiny), adapter=Path(name))
