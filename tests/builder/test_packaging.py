"""From a build to a folder that runs."""

from __future__ import annotations

import codecs
import errno
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship.builder import Build, model_card
from edgeship.builder.packaging import (
    Spelling,
    require_packable,
    tune_genai_config,
    tune_tokenizer_config,
    write_package,
)
from edgeship.checkpoint import Checkpoint, open_checkpoint
from edgeship.engine.text import TextCodec
from edgeship.errors import (
    BuilderFailed,
    DiskShort,
    NotWritable,
    TemplateInvalid,
    TemplateMissing,
    UsageError,
)
from edgeship.package import genai_config
from edgeship.package.conversation import Conversation
from edgeship.package.fidelity import CONVERSATIONS, check_fidelity, conversations_for
from edgeship.package.inference_model import read_parts
from edgeship.package.manifest import read, verify
from edgeship.package.prompt_parts import derive_parts
from edgeship.package.template import render
from edgeship.system.storage import digest_file
from tests import tool_templates
from tests.chat_templates import FAMILIES, Family
from tests.checkpoints import CHATML, make_checkpoint, write_json
from tests.packages import GENAI_CONFIG, make_build


@pytest.fixture
def checkpoint(tiny: Path) -> Checkpoint:
    return open_checkpoint(str(tiny))


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return make_build(tmp_path / "build")


def load(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- writing -----------------------------------------------------------------------------------------


def test_a_package_holds_what_the_design_draws(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = write_package(build, checkpoint, tmp_path / "deep" / "out")
    assert names(made.folder) == {
        "model.onnx",
        "model.onnx.data",
        "genai_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
        "inference_model.json",
        "README.md",
        "edgeship.json",
    }
    assert verify(made) == []
    assert read(made.folder) == made
    assert set(made.manifest.files) == names(made.folder) - {"edgeship.json"}
    assert names(tmp_path / "deep") == {"out"}


def test_the_manifest_tells_what_it_was_made_of_and_nothing_of_where(
    build: Build, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    made = write_package(build, checkpoint, tmp_path / "out")
    manifest = made.manifest
    assert (manifest.format, manifest.context_tokens) == (2, 512)
    assert "source" not in manifest.checkpoint
    assert manifest.checkpoint["licence"] == "apache-2.0"
    assert manifest.checkpoint["digest"] == checkpoint.digest
    assert manifest.recipe == build.recipe.to_key()
    assert manifest.build == {"key": build.key, "builder": build.builder, "tools": build.tools}
    assert manifest.adapter is None
    everything = b"".join(path.read_bytes() for path in made.folder.iterdir())
    assert str(tmp_path).encode() not in everything
    assert b"tiny" not in everything


def test_the_manifest_names_the_format_of_calls_where_the_template_takes_tools(
    build: Build, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    made = write_package(build, checkpoint, tmp_path / "out", Spelling(tool_templates.QWEN))
    assert made.manifest.checkpoint["tool_format"] == "hermes"
    assert "tool_format" not in write_package(build, checkpoint, tmp_path / "plain").manifest.checkpoint


def test_a_checkpoint_of_the_hub_is_named(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    plain, at_a_branch = (
        write_package(
            build, replace(checkpoint, source=source, revision="0123abc"), tmp_path / source.replace("/", "-")
        )
        for source in ("org/name", "org/name@main")
    )
    assert plain.manifest.checkpoint["source"] == "org/name"
    assert plain.manifest.checkpoint["revision"] == "0123abc"
    assert plain.digest == at_a_branch.digest


def test_the_same_build_is_the_same_package_wherever_and_whenever(
    build: Build, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    made = write_package(build, checkpoint, tmp_path / "out")
    moved = make_checkpoint(tmp_path / "called otherwise")
    later = replace(build, wall_s=build.wall_s + 9, peak_memory_bytes=7)
    again = write_package(later, open_checkpoint(str(moved)), tmp_path / "deep" / "other")
    assert names(again.folder) == names(made.folder)
    for path in made.folder.iterdir():
        assert (again.folder / path.name).read_bytes() == path.read_bytes(), path.name
    assert again.digest == made.digest


def test_an_adapter_is_described(build: Build, tiny: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    made = write_package(build, open_checkpoint(str(tiny), adapter=tiny_adapter), tmp_path / "out")
    assert made.manifest.adapter is not None
    assert "source" not in made.manifest.adapter
    assert (made.manifest.adapter["rank"], made.manifest.adapter["alpha"]) == (4, 8)


def test_the_tokenizer_is_the_checkpoints_own(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    (build.folder / "tokenizer.json").write_text("what the builder saved anew", encoding="utf-8")
    made = write_package(build, checkpoint, tmp_path / "out")
    assert digest_file(made.folder / "tokenizer.json") == digest_file(checkpoint.folder / "tokenizer.json")
    assert (made.folder / "chat_template.jinja").read_bytes() == CHATML.encode()


def test_the_package_is_a_copy_of_the_build(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = write_package(build, checkpoint, tmp_path / "out")
    weights = made.folder / "model.onnx.data"
    assert weights.read_bytes() == (build.folder / "model.onnx.data").read_bytes()
    # Readers of ONNX refuse weights with a second name.
    assert weights.stat().st_nlink == 1


def test_prompt_parts_are_derived(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = write_package(build, checkpoint, tmp_path / "out")
    stated = load(made.folder / "inference_model.json")
    assert stated["Name"] == "qwen2-int4"
    assert stated["PromptTemplate"]["prompt"] == "<|im_start|>user\n{Content}<|im_end|>\n<|im_start|>assistant\n"
    assert read_parts(made.folder) == derive_parts(CHATML, {})


def with_tokens(checkpoint: Checkpoint, tokens: Mapping[str, str]) -> Checkpoint:
    return replace(checkpoint, tokenizer=replace(checkpoint.tokenizer, special_tokens=tokens))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_prompt_parts_are_read_back_as_derived(
    family: Family, build: Build, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    changed = replace(with_tokens(checkpoint, family.tokens), chat_template=family.template)
    made = write_package(build, changed, tmp_path / "out")
    assert read_parts(made.folder) == derive_parts(family.template, family.tokens)


def test_a_package_is_replaced_and_an_empty_folder_filled(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_package(build, checkpoint, tmp_path / "out")
    (tmp_path / "out" / "stray").write_text("of the old one", encoding="utf-8")
    assert verify(write_package(build, checkpoint, tmp_path / "out")) == []
    assert "stray" not in names(tmp_path / "out")
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_another_folder_is_not_replaced(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="is no package") as caught:
        write_package(build, checkpoint, tmp_path / "out")
    assert caught.value.where == str(tmp_path / "out")
    assert names(tmp_path / "out") == {"thesis.tex"}


def test_the_folder_may_be_given_by_dots(
    build: Build, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "inner")
    assert write_package(build, checkpoint, Path("../../out")).folder == tmp_path / "out"
    assert write_package(build, checkpoint, Path("../inner/../out")).folder == tmp_path / "work" / "out"


def test_a_file_in_the_way(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match="is no package"):
        write_package(build, checkpoint, tmp_path / "file")
    with pytest.raises(NotWritable, match="cannot be written"):
        write_package(build, checkpoint, tmp_path / "file" / "out")


def test_without_a_template_there_is_no_package(build: Build, tmp_path: Path) -> None:
    bare = open_checkpoint(str(make_checkpoint(tmp_path / "bare", template=None)))
    with pytest.raises(TemplateMissing) as caught:
        write_package(build, bare, tmp_path / "out")
    assert caught.value.hint is not None
    assert "--chat-template" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_template_that_says_nothing_makes_no_package(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    mute = replace(checkpoint, chat_template="{{ messages | length }}")
    for refused in (lambda: write_package(build, mute, tmp_path / "out"), lambda: require_packable(mute)):
        with pytest.raises(TemplateInvalid, match="leaves out what the user says"):
            refused()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}[Round {{ loop.index }}]\n{{ m.role }}: {{ m.content }}\n{% endfor %}",
        "### Instruction:\n{{ messages[-1].content }}\n\n### Response:\n",
    ],
)
def test_a_template_without_parts_makes_a_package_that_says_so(
    build: Build, checkpoint: Checkpoint, tmp_path: Path, template: str
) -> None:
    changed = replace(checkpoint, chat_template=template)
    made = write_package(build, changed, tmp_path / "out")
    assert load(made.folder / "inference_model.json").keys() == {"Name", "Description"}
    assert read_parts(made.folder) is None
    assert "it cannot be shown turn by turn" in (made.folder / "README.md").read_text(encoding="utf-8")
    (note,) = require_packable(changed)
    assert note.startswith("inference_model.json states no prompt parts, which only Foundry Local 1 needs")
    assert require_packable(checkpoint) == ()


def test_a_build_without_its_model(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    data = build.folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-3])
    with pytest.raises(BuilderFailed, match=r"model\.onnx\.data has 6997 bytes instead of 7000"):
        write_package(build, checkpoint, tmp_path / "out")
    (build.folder / "model.onnx").unlink()
    with pytest.raises(BuilderFailed, match=r"model\.onnx is gone"):
        write_package(build, checkpoint, tmp_path / "out")
    assert names(tmp_path) == {"tiny", "build"}


@pytest.mark.parametrize("interruption", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_interruption_leaves_the_old_package(
    build: Build,
    checkpoint: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: BaseException,
) -> None:
    old = write_package(build, checkpoint, tmp_path / "out")

    def interrupt(*_: object) -> None:
        raise interruption

    monkeypatch.setattr(model_card, "render_card", interrupt)
    with pytest.raises((DiskShort, KeyboardInterrupt)):
        write_package(build, checkpoint, tmp_path / "out")
    assert read(tmp_path / "out") == old
    assert verify(old) == []
    assert names(tmp_path) == {"tiny", "build", "out"}


def test_what_a_killed_process_left_is_deleted(build: Build, checkpoint: Checkpoint, tmp_path: Path) -> None:
    dead, alive = tmp_path / ".out.tmp-999999999-ab", tmp_path / ".out.tmp-1-ab"
    dead.mkdir()
    alive.mkdir()
    write_package(build, checkpoint, tmp_path / "out")
    assert not dead.exists()
    assert alive.exists()


# --- genai_config.json and tokenizer_config.json -----------------------------------------------------


def tuned(checkpoint: Checkpoint, generation: dict[str, Any] | None = None, **stop: Any) -> dict[str, Any]:
    changed = replace(checkpoint, stop=replace(checkpoint.stop, **stop))
    if generation is not None:
        changed = replace(changed, generation=generation)
    return tune_genai_config(GENAI_CONFIG, changed)


def test_no_threads_are_named_and_other_options_kept(checkpoint: Checkpoint) -> None:
    """They are those of the machine that runs it, and a package is for all machines."""
    named = genai_config.with_threads(GENAI_CONFIG, 6)
    for config in (GENAI_CONFIG, named):
        decoder = tune_genai_config(config, checkpoint)["model"]["decoder"]
        assert decoder["session_options"] == {"log_id": "onnxruntime-genai", "provider_options": []}
        assert decoder["num_hidden_layers"] == 2


def test_tokens_are_the_checkpoints(checkpoint: Checkpoint) -> None:
    model = tuned(checkpoint, eos_ids=(2, 0), pad_id=None, bos_id=None)["model"]
    assert (model["eos_token_id"], model["pad_token_id"]) == ([2, 0], 2)
    assert "bos_token_id" not in model  # the builder invents one
    model = tuned(checkpoint, eos_ids=(2,), pad_id=0, bos_id=5)["model"]
    assert (model["eos_token_id"], model["pad_token_id"], model["bos_token_id"]) == (2, 0, 5)
    assert model["context_length"] == 512


@pytest.mark.parametrize("stated", [{}, {"eos_token_id": 2}, {"temperature": 0.7, "top_p": 0.8}])
def test_answers_are_greedy_where_the_checkpoint_does_not_ask_for_samples(
    checkpoint: Checkpoint, stated: dict[str, Any]
) -> None:
    """As transformers has it: do_sample is false where nobody states it."""
    assert tuned(checkpoint, stated)["search"]["do_sample"] is False


def test_sampling_is_neutral_where_the_checkpoint_says_nothing(checkpoint: Checkpoint) -> None:
    search = tuned(checkpoint, {"eos_token_id": 2})["search"]
    assert (search["temperature"], search["top_p"], search["repetition_penalty"]) == (1.0, 1.0, 1.0)
    assert (search["max_length"], search["top_k"], search["past_present_share_buffer"]) == (512, 50, True)
    longer = replace(checkpoint, context_tokens=32768, generation={})
    assert tune_genai_config(GENAI_CONFIG, longer)["search"]["max_length"] == 2048


def test_the_checkpoints_own_sampling_wins(checkpoint: Checkpoint) -> None:
    stated = {"temperature": 0.2, "top_p": 0.5, "top_k": 7, "repetition_penalty": 1.0, "max_length": 100}
    search = tuned(checkpoint, {**stated, "do_sample": True})["search"]
    assert {key: search[key] for key in stated} == stated


@pytest.mark.parametrize("stated", [{"do_sample": False}, {"temperature": 0.0}])
def test_a_greedy_checkpoint_is_not_penalised(checkpoint: Checkpoint, stated: dict[str, Any]) -> None:
    search = tuned(checkpoint, stated)["search"]
    assert search["do_sample"] is False
    assert (search["temperature"], search["top_p"], search["repetition_penalty"]) == (1.0, 1.0, 1.0)


def test_null_in_a_generation_config_says_nothing(checkpoint: Checkpoint) -> None:
    search = tuned(checkpoint, {"temperature": None, "do_sample": None, "max_length": None})["search"]
    assert (search["temperature"], search["do_sample"], search["max_length"]) == (1.0, False, 512)


@pytest.mark.parametrize(
    ("stated", "written"),
    [
        ("Qwen2Tokenizer", "Qwen2Tokenizer"),
        ("LlamaTokenizerFast", "LlamaTokenizerFast"),
        ("TokenizersBackend", "TokenizersBackend"),
        ("MyTokenizer", "PreTrainedTokenizerFast"),
        (None, "PreTrainedTokenizerFast"),
    ],
)
def test_tokenizer_classes_that_onnxruntime_genai_refuses_are_replaced(stated: str | None, written: str) -> None:
    config = {"eos_token": "<e>", "chat_template": [{"name": "default", "template": "stale"}]}
    found = tune_tokenizer_config({**config, "tokenizer_class": stated}, CHATML)
    assert found == {"eos_token": "<e>", "chat_template": CHATML, "tokenizer_class": written}


def test_a_bos_that_only_the_older_file_states_is_the_packages_too(build: Build, tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", template="{{ bos_token }}" + CHATML)
    write_json(source / "special_tokens_map.json", {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    made = write_package(build, open_checkpoint(str(source)), tmp_path / "out")
    assert load(made.folder / "genai_config.json")["model"]["bos_token_id"] == 1
    assert load(made.folder / "tokenizer_config.json")["bos_token"] == "<|im_start|>"
    for path in (made.folder, source):
        assert TextCodec(path).render(Conversation(({"role": "user", "content": "hello"},))).tokens[0] == 1


# --- the real reader ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, Checkpoint]:
    """A tiny model that onnxruntime-genai can load."""
    from edgeship import builder as builds
    from edgeship.recipe import Precision, Recipe
    from edgeship.settings import Settings

    root = tmp_path_factory.mktemp("real")
    checkpoint = open_checkpoint(str(make_checkpoint(root / "tiny")))
    settings = Settings(home=root, cache_dir=root / "models", config_file=root / "config.toml")
    return builds.build(checkpoint, Recipe(precision=Precision.INT4), settings), checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
@pytest.mark.parametrize("tokenizer_class", ["PreTrainedTokenizerFast", "UnknownTokenizer"])
def test_onnxruntime_genai_reads_the_same_tokens(
    family: Family, tokenizer_class: str, real_build: tuple[Build, Checkpoint], tmp_path: Path
) -> None:
    import onnxruntime_genai
    from tokenizers import Tokenizer

    build, _ = real_build
    source = make_checkpoint(tmp_path / "source")
    config = {"tokenizer_class": tokenizer_class, "chat_template": "stale", **family.tokens}
    write_json(source / "tokenizer_config.json", {"eos_token": "<|im_end|>", **config})
    (source / "chat_template.jinja").write_bytes(family.template.encode())
    checkpoint = with_tokens(open_checkpoint(str(source)), family.tokens)
    made = write_package(build, checkpoint, tmp_path / "out")

    model = onnxruntime_genai.Model(str(made.folder))
    theirs = onnxruntime_genai.Tokenizer(model)
    ours = Tokenizer.from_file(str(source / "tokenizer.json"))

    def expected(messages: Any) -> list[int]:
        text = render(family.template, messages, special_tokens=family.tokens)
        return list(ours.encode(text, add_special_tokens=False).ids)

    def found(messages: Any) -> list[int]:
        turns = json.dumps([dict(message) for message in messages])
        return [int(token) for token in theirs.encode(theirs.apply_chat_template(turns, add_generation_prompt=True))]

    conversations = conversations_for(family.template, family.tokens)
    mismatches = check_fidelity({"transformers": expected, "onnxruntime-genai": found}, conversations)
    assert [(mismatch.conversation, mismatch.excuse) for mismatch in mismatches] == [
        ("decomposed accents", "onnxruntime-genai does not compose accents (NFC) as the tokenizer does")
    ]


@pytest.mark.slow
def test_onnxruntime_genai_runs_the_package_as_it_lies(real_build: tuple[Build, Checkpoint], tmp_path: Path) -> None:
    import onnxruntime_genai

    build, checkpoint = real_build
    made = write_package(build, checkpoint, tmp_path / "out")
    model = onnxruntime_genai.Model(str(made.folder))
    tokenizer = onnxruntime_genai.Tokenizer(model)
    messages = json.dumps([dict(message) for message in CONVERSATIONS[0].messages])
    prompt = tokenizer.encode(tokenizer.apply_chat_template(messages, add_generation_prompt=True))
    parameters = onnxruntime_genai.GeneratorParams(model)
    parameters.set_search_options(max_length=len(prompt) + 5)
    generator = onnxruntime_genai.Generator(model, parameters)
    generator.append_tokens(prompt)
    generator.generate_next_token()
    assert 0 <= generator.get_next_tokens()[0] < checkpoint.vocab_size


@pytest.mark.parametrize("output", ["", ".", "..", "../here"])
def test_the_working_directory_is_not_replaced(
    build: Build, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    here = tmp_path / "around" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    with pytest.raises(UsageError, match="working directory"):
        write_package(build, checkpoint, Path(output))
    assert Path.cwd() == here
    assert names(here.parent) == {"here"}


def test_byte_order_marks_of_a_checkpoints_files_stay_outside(tiny: Path, tmp_path: Path) -> None:
    plain = write_package(make_build(tmp_path / "build"), open_checkpoint(str(tiny)), tmp_path / "plain")
    for path in (*tiny.glob("*.json"), *tiny.glob("*.jinja")):
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    marked = write_package(make_build(tmp_path / "build"), open_checkpoint(str(tiny)), tmp_path / "marked")
    # The card names the checkpoint's digest, which is of other bytes.
    assert {**marked.manifest.files, "README.md": None} == {**plain.manifest.files, "README.md": None}
    assert verify(marked) == []
