"""What is read, by whom: each with a good input, which of its files are damaged, and the command lines that meet it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeship.builder.packaging import write_package
from edgeship.checkpoint.families import FAMILIES
from edgeship.checkpoint.traits import Traits
from edgeship.errors import CheckpointInvalid, MemoryShort
from edgeship.system.storage import digest_file
from tests import checkpoints
from tests.fuzz import packed
from tests.packages import make_package

Make = Callable[[Path], object]
Read = Callable[[Path], object]
CHECKPOINT = (
    *("config.json", "config.json", "config.json", "generation_config.json", "tokenizer_config.json"),
    *("tokenizer.json", "tokenizer.json", "special_tokens_map.json", "chat_template.jinja", "README.md", "LICENSE"),
    *("model.safetensors", "model.safetensors"),
)
MEMORY_BYTES = 1_500_000_000
"""Of the machine for which is built."""
PACKAGE = (
    *("edgeship.json", "edgeship.json", "genai_config.json", "genai_config.json", "inference_model.json"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "README.md"),
)


@dataclass(frozen=True)
class Reader:
    """Something that strangers' files are given to.

    make: writes the good input into a folder. files: in it, of which one is damaged; some more often.
    read: raises what is wrong with it. commands: command lines that meet it, with {} for the folder.
    """

    name: str
    make: Make
    files: tuple[str, ...]
    read: Read
    commands: tuple[str, ...] = ()


# --- checkpoints -----------------------------------------------------------------------------------------------------


def _checkpoint(folder: Path, **config: Any) -> None:
    full = checkpoints.qwen2_config(
        bos_token_id=0,
        head_dim=checkpoints.HEAD_SIZE,
        sliding_window=None,
        use_sliding_window=False,
        max_window_layers=2,
        layer_types=["full_attention"] * checkpoints.LAYERS,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    checkpoints.make_checkpoint(folder, config=full | config)
    checkpoints.write_json(
        folder / "special_tokens_map.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    )
    generation = {"eos_token_id": [2, 0], "pad_token_id": 0, "do_sample": True, "temperature": 0.7, "top_p": 0.8}
    checkpoints.write_json(folder / "generation_config.json", generation | {"top_k": 20, "repetition_penalty": 1.05})
    (folder / "LICENSE").write_text("Apache License\n", encoding="utf-8")


def _sharded(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    _checkpoint(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    index: dict[str, str] = {}
    for number in (1, 2):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names[number - 1 :: 2]}, folder / shard)
        index |= dict.fromkeys(names[number - 1 :: 2], shard)
    checkpoints.write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})


def _family(architecture: str, **config: Any) -> Make:
    def make(folder: Path) -> None:
        from safetensors.numpy import save_file

        family = FAMILIES[architecture]
        _checkpoint(folder, architectures=[architecture], model_type=family.model_type, **config)
        save_file(_weights(family.traits), folder / "model.safetensors", metadata={"format": "pt"})

    return make


def _weights(traits: Traits) -> dict[str, np.ndarray]:
    """Random weights with the tensors of a family."""
    weights = {name: tensor for name, tensor in checkpoints.qwen2_weights().items() if not name.endswith(".bias")}
    for layer in [f"model.layers.{number}." for number in range(checkpoints.LAYERS)]:
        if traits.head_norm == "head":
            for name in ("q_norm", "k_norm"):
                weights[f"{layer}self_attn.{name}.weight"] = np.ones(checkpoints.HEAD_SIZE, np.float32)
        if traits.norms == "around":
            for name in ("pre_feedforward_layernorm", "post_feedforward_layernorm"):
                weights[f"{layer}{name}.weight"] = np.ones(checkpoints.HIDDEN, np.float32)
        if traits.fused:
            for whole, parts in (
                ("self_attn.qkv_proj", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
                ("mlp.gate_up_proj", ("mlp.gate_proj", "mlp.up_proj")),
            ):
                rows = [weights.pop(f"{layer}{part}.weight") for part in parts]
                weights[f"{layer}{whole}.weight"] = np.concatenate(rows)
    return weights


_FAMILIES: dict[str, Make] = {
    "gemma": _family(
        "Gemma3ForCausalLM",
        use_sliding_window=True,
        sliding_window=64,
        sliding_window_pattern=2,
        layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=16,
        rope_local_base_freq=10000.0,
        final_logit_softcapping=None,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
        rope_parameters=None,
    ),
    "gemma2": _family(
        "Gemma2ForCausalLM",
        use_sliding_window=True,
        sliding_window=64,
        layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=16,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
    ),
    "mistral": _family("MistralForCausalLM", sliding_window=64, layer_types=None),
    "qwen3": _family("Qwen3ForCausalLM", use_sliding_window=True, sliding_window=64, max_window_layers=2),
    "granite": _family(
        "GraniteForCausalLM",
        attention_multiplier=0.0625,
        embedding_multiplier=12.0,
        residual_multiplier=0.22,
        logits_scaling=8.0,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 128,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "attention_factor": 1.1,
        },
    ),
    "smollm": _family("SmolLM3ForCausalLM", no_rope_layers=[1, 0], no_rope_layer_interval=2),
    "phi": _family(
        "Phi3ForCausalLM",
        original_max_position_embeddings=128,
        sliding_window=64,
        rope_scaling={"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8},
        rope_parameters=None,
    ),
    "llama": _family(
        "LlamaForCausalLM",
        rope_parameters=None,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    ),
}


def _open(folder: Path, adapter: Path | None = None) -> None:
    from edgeship import builder
    from edgeship.builder.packaging import require_packable
    from edgeship.checkpoint import open_checkpoint
    from edgeship.checkpoint.inspection import inspection
    from edgeship.recipe import Precision, Recipe

    opened = open_checkpoint(str(folder), adapter=adapter)
    json.dumps(inspection(opened), ensure_ascii=False).encode()
    require_packable(opened)
    for precision in Precision:
        builder.prediction(opened, Recipe(precision=precision))


def _spell(folder: Path) -> None:
    from edgeship import readers
    from edgeship.checkpoint import open_checkpoint

    readers.spell(open_checkpoint(str(folder)))


def _open_family(folder: Path) -> None:
    from edgeship.builder.architecture import read_architecture
    from edgeship.checkpoint import open_checkpoint

    read_architecture(open_checkpoint(str(folder)))


def _build(folder: Path) -> None:
    """What a build does, in this process: converts, packs, runs; unless that is predicted to take too much memory."""
    from edgeship import builder
    from edgeship.builder import stream_worker
    from edgeship.checkpoint import open_checkpoint
    from edgeship.progress import silent
    from edgeship.recipe import Precision, Recipe

    opened = open_checkpoint(str(folder))
    recipe, prediction = builder.prediction(opened, Recipe(precision=Precision.INT4, builder="stream"))
    if max(prediction.run_memory_bytes, prediction.build_peak_memory_bytes) > MEMORY_BYTES:
        raise MemoryShort("it is predicted to need more")
    made = folder.parent / "made"
    made.mkdir()
    job = {"step": "stream", "checkpoint": str(folder), "allow_pickle": False, "adapter": None, "source": str(folder)}
    job |= {"chat_template": opened.chat_template, "recipe": recipe.model_dump(mode="json"), "folder": str(made)}
    job |= {"digest": opened.digest, "texts": None}
    stream_worker.work(job, silent)
    files = {path.name: digest_file(path) for path in made.iterdir()}
    built = builder.Build(made, recipe, "k" * 64, "stream", {}, files, 1.0, 1)
    write_package(built, opened, folder.parent / "triage")
    _run(folder.parent, "auto")


def _read_packed(folder: Path) -> None:
    """Opens it, and writes all its weights anew in each precision."""
    from edgeship.builder import data_file, stream
    from edgeship.checkpoint import open_checkpoint
    from edgeship.recipe import Precision, Recipe

    packed.put_back(folder / "packed")
    _open(folder / "packed")
    for precision in (Precision.INT4, Precision.FP16):
        recipe = Recipe(precision=precision, builder="stream", method="search")
        _, weights, layout = stream.design(open_checkpoint(str(folder / "packed")), recipe)
        if layout.size_bytes > MEMORY_BYTES:
            raise MemoryShort("it is predicted to need more")
        made = folder / precision.value
        made.mkdir()
        data_file.write(layout, weights, made / "model.onnx.data")


def _adapter(folder: Path) -> None:
    _checkpoint(folder / "base")
    checkpoints.make_adapter(
        folder / "adapter", rank_pattern={"layers.0.self_attn.q_proj": 4}, alpha_pattern={"down_proj": 8}
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(folder / "base" / name, folder / "adapter" / name)


def _read_adapter(folder: Path) -> None:
    _open(folder / "base", folder / "adapter")


# --- packages --------------------------------------------------------------------------------------------------------


def _package(folder: Path) -> None:
    made = make_package(folder / "work" / "triage").folder
    shutil.move(made, folder / "triage")
    shutil.rmtree(folder / "work")


def _read_package(folder: Path) -> None:
    from edgeship.package import DAMAGED, fidelity, genai_config, inference_model, manifest, template, tokenizer
    from edgeship.package.prompt_parts import derive_parts

    package = folder / "triage"
    config = genai_config.read(package, DAMAGED)
    if "num_key_value_heads" in (config.document["model"].get("decoder") or {}):
        _ = config.cache_names, config.layers_differ, config.kept_names("conv", 0)
    files = tokenizer.read(package, DAMAGED)
    files.ids, files.load()
    found = template.find(package, files.config, named=False)
    inference_model.read_name(package)
    inference_model.read_parts(package)
    if found is not None:
        derive_parts(found, files.special_tokens)
        fidelity.conversations_for(found, files.special_tokens)
    read = manifest.read(package)
    json.dumps(read.manifest.model_dump(mode="json"), ensure_ascii=False).encode()
    manifest.verify(read)


def _read_checks(folder: Path) -> None:
    from edgeship.foundry import checks

    checks.check(folder / "triage")


def _store(folder: Path) -> None:
    from edgeship.store import packages

    _package(folder)
    measured = {"fidelity": {"top_1": 0.99}, "speed": {"decode_tokens_per_s": 50.0}, "size_bytes": 1000}
    packages.install(folder / "triage", folder / "cache", measurements=measured, verdict={"reasons": ["it holds"]})
    shutil.rmtree(folder / "triage")


def _read_store(folder: Path) -> None:
    from edgeship.store import verification

    verification.verify(folder / "cache", None)


def _engine(folder: Path) -> None:
    from edgeship import builder
    from edgeship.checkpoint import open_checkpoint
    from edgeship.recipe import Precision, Recipe
    from edgeship.settings import Settings

    _checkpoint(folder / "tiny")
    opened = open_checkpoint(str(folder / "tiny"))
    settings = Settings(home=folder / "home", cache_dir=folder / "models", config_file=folder / "config.toml")
    write_package(builder.build(opened, Recipe(precision=Precision.INT4), settings), opened, folder / "triage")
    for name in ("tiny", "home"):
        shutil.rmtree(folder / name)


def _run(folder: Path, engine: str = "batched") -> None:
    from edgeship.engine.api import Conversation, Limits, Sampling
    from edgeship.engine.opening import load

    limits = Limits(slots=1, context_tokens=64, kv_bytes=1 << 24)
    with load(folder / "triage", threads=1, engine=engine, limits=limits) as opened:
        for _ in opened.converse(Conversation([{"role": "user", "content": "hello"}]), Sampling(max_tokens=2)):
            pass


# --- what a user writes ----------------------------------------------------------------------------------------------


OTHER_SHAPES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes", "weight": 1}], "id": 7},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}], "answers": ["yes", "no"]},
    {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "yes"}]},
    {"prompt": [{"role": "user", "content": "hello"}], "completion": [{"role": "assistant", "content": "yes"}]},
    {"instruction": "say", "input": "hello", "output": "yes", "system": "be brief"},
    {"question": "hello", "answer": "yes"},
]
"""Examples as fine-tuning files have them."""


ASSERTING: list[dict[str, Any]] = [
    {
        "assert": [{"type": "regex", "value": "(a+)+$", "weight": 2}, {"type": "not-contains", "value": "x"}],
        "threshold": 0.5,
    },
    {
        "assert": [
            {"type": "json-path", "path": "$.a[0]['b']", "value": 1},
            {"type": "json-schema", "value": {"type": "object"}},
        ]
    },
    {
        "assert": [{"type": "tool-calls", "value": [{"name": "f", "arguments": {}}]}],
        "tools": [{"function": {"name": "f"}}],
    },
    {"expected": "yes", "tags": ["a"], "weight": 2, "seed": 1, "schema": {"properties": {"a": {"pattern": "^a"}}}},
]
"""What is asserted of answers."""


def _eval(folder: Path) -> None:
    case = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}], "slice": "a"}
    lines = [case | {"id": "a1", "expected": "yes"}, case | {"id": "a2", "expected": {"a": [1, 2.5]}, "match": "json"}]
    lines.append(case | {"id": "a3", "expected": "ye", "match": "contains"})
    lines += [case | {"id": f"b{number}", **more} for number, more in enumerate(ASSERTING)]
    lines += OTHER_SHAPES
    (folder / "eval.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")


def _read_eval(folder: Path) -> None:
    from edgeship.measure.cases.evalset import passes, read_evalset

    for case in read_evalset(folder / "eval.jsonl"):
        passes(case, case.expected_text)
        passes(case, "[" * 5000)


def _promptfoo(folder: Path) -> None:
    text = """
prompts:
  - 'Say {{word}}.'
  - {raw: '[{"role": "user", "content": "{% if word %}{{ word | upper }}{% endif %}"}]', label: chat}
  - file://p.txt
defaultTest: {assert: [{type: max-length, value: 9}]}
tests:
  - {description: one, vars: {word: [a, b]}, threshold: 0.5, assert: [{type: equals, value: '{{word}}', weight: 2}]}
  - {vars: file://vars.yaml, assert: [{type: is-json, value: {type: object}}, {type: not-regex, value: a+}]}
"""
    (folder / "promptfoo.yaml").write_text(text, encoding="utf-8")
    (folder / "p.txt").write_text("one {{word}}\n---\ntwo\n", encoding="utf-8")
    (folder / "vars.yaml").write_text("word: '{{other}}'\nother: c\n", encoding="utf-8")


def _read_promptfoo(folder: Path) -> None:
    from edgeship.measure.cases.evalset import passes, read_evalset

    for case in read_evalset(folder / "promptfoo.yaml"):
        passes(case, "{}")


def _calibration(folder: Path) -> None:
    _checkpoint(folder / "tiny")
    turns = [{"role": "user", "content": "hello"}]
    lines = [{"messages": turns, "expected": "yes"}, {"text": "hello world"}, {"messages": turns, "expected": {"a": 1}}]
    lines += OTHER_SHAPES
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")


def _read_calibration(folder: Path) -> None:
    from edgeship.builder.calibration_texts import read_sequences
    from edgeship.checkpoint import open_checkpoint

    read_sequences(folder / "texts.jsonl", open_checkpoint(str(folder / "tiny")))


def _recipe(folder: Path) -> None:
    lines = [
        *('checkpoint = "tiny"', 'output = "out"', 'name = "mine"', 'precision = "int4"', "block_size = 32"),
        *("symmetric = false", 'method = "search"', "bits = 5.5", "accuracy_level = 4", 'builder = "stream"'),
    ]
    (folder / "recipe.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _workflow(folder: Path) -> None:
    from edgeship.recipe import Precision, Recipe, olive

    recipe = Recipe(precision=Precision.INT4, method="rtn")
    (folder / "flow.json").write_text(olive.render(recipe, "tiny", "adapter", "out", "cache"), encoding="utf-8")


def _read_recipe(name: str) -> Read:
    def read(folder: Path) -> None:
        from edgeship.recipe.file import read_recipe_file

        read_recipe_file(folder / name).recipe.to_key()

    return read


def _settings(folder: Path) -> None:
    lines = [
        *('home = "home"', 'cache_dir = "models"', "threads = 2", 'memory_bytes = "8GB"', 'builds_limit = "20GB"'),
        *('foundry_app = "mine"', 'foundry_cache_dir = "foundry"'),
    ]
    (folder / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _read_settings(folder: Path) -> None:
    from edgeship import settings

    before = dict(os.environ)
    os.environ["EDGESHIP_CONFIG"] = str(folder / "config.toml")
    os.environ.pop("EDGESHIP_HOME", None)
    try:
        settings.resolve()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _gate(folder: Path) -> None:
    from edgeship.validate.checks import CHECKS
    from edgeship.validate.gate import as_toml

    # Every other check is turned off, and says why; the rest say why their bounds are others.
    reasons = itertools.cycle(('off = "every night"', 'why = "few cases"'))
    lines = (f"{line}\n{next(reasons)}" if line.startswith("[") else line for line in as_toml(CHECKS).splitlines())
    (folder / "gate.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _read_gate(folder: Path) -> None:
    from edgeship.validate.checks import CHECKS
    from edgeship.validate.gate import read_gate

    gate = read_gate(folder / "gate.toml", CHECKS)
    for check in CHECKS:
        gate.of(check)


def _schema(folder: Path) -> None:
    properties = {"a": {"type": "integer", "minimum": 0}, "b": {"enum": ["x", "y"]}, "c": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": ["a", "b"], "additionalProperties": False}
    checkpoints.write_json(folder / "schema.json", schema)
    _checkpoint(folder / "tiny")


def _read_schema(folder: Path) -> None:
    from edgeship.cli.model_run import AnswerOptions
    from edgeship.engine.grammar import Grammars

    held = AnswerOptions(schema=str(folder / "schema.json")).constraint()
    if held is not None:
        Grammars(folder / "tiny" / "tokenizer.json", checkpoints.VOCAB, frozenset({2})).matcher(held)


# --- what Edgeship and Foundry Local keep ----------------------------------------------------------------------------


def _tuning(folder: Path) -> None:
    from edgeship.engine import tune

    _package(folder)
    setting = tune.Setting(2, None)
    found = tune.Tuning(
        threads=2,
        accuracy_level=None,
        slots=4,
        step_s={1: 0.01, 16: 0.02},
        batch_s={1: 0.01, 4: 0.02},
        measured_at="2026-11-26T00:00:00Z",
        versions={},
        cpu="cpu",
        trials=(tune.Trial(setting, 0.01, 0.02),),
    )
    tune.remember(folder / "home", folder / "triage", found).replace(folder / "tuning.json")


def _read_tuning(folder: Path) -> None:
    from edgeship.engine import tune

    # Its name is a digest of the package.
    (place,) = (folder / "home" / "tuning").iterdir()
    name = tune._place(folder / "home", folder / "triage").name
    if (folder / "tuning.json").exists():
        (folder / "tuning.json").replace(place / name)
    tune.remembered(folder / "home", folder / "triage")


def _catalog(folder: Path) -> None:
    models = [{"model_info": {"id": "a:1", "name": "a"}, "model_path": "a"}, {"model_info": {"id": "b:2"}}]
    checkpoints.write_json(folder / "foundry.local.modelinfo.json", {"models": models, "version": 1})


def _read_catalog(folder: Path) -> None:
    from edgeship.foundry import sdk

    sdk.registered_folders(folder)


def _step(folder: Path) -> None:
    from edgeship.builder.steps import StepRecord

    (folder / "s").mkdir()
    (folder / "s" / "model.onnx").write_bytes(b"graph")
    files = {"model.onnx": digest_file(folder / "s" / "model.onnx")}
    made = {"name": "stream", "key": "k", "options": {"a": [1]}, "tools": {"numpy": "2"}, "wall_s": 1.5}
    record = StepRecord.model_validate(made | {"peak_memory_bytes": 7, "files": files})
    checkpoints.write_json(folder / "s" / "step.json", record.model_dump(mode="json"))
    lines = [["m0:0+4", 1, 2], ["m1:0+4", 3]]
    (folder / "journal-0.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")


def _read_step(folder: Path) -> None:
    from edgeship.builder import data_file, steps
    from edgeship.builder.planning import Step

    steps.find(Step("stream", "k", True, folder / "s", "", ()))
    data_file._read_journals(folder / "model.onnx.data")


READERS: tuple[Reader, ...] = (
    Reader(
        "checkpoint",
        _checkpoint,
        CHECKPOINT,
        _open,
        ("inspect {}", "inspect {} --json", "build {} --plan", "olive-config {}"),
    ),
    Reader(
        "prompts",
        _checkpoint,
        ("tokenizer.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.jinja"),
        _spell,
    ),
    Reader(
        "shards",
        _sharded,
        ("model.safetensors.index.json", "model-00001-of-00002.safetensors"),
        _open,
        ("inspect {}",),
    ),
    *(
        Reader(f"build-{name}", make, ("config.json", "config.json", "generation_config.json"), _build)
        for name, make in {"qwen2": _checkpoint, **_FAMILIES}.items()
    ),
    *(Reader(name, make, ("config.json",), _open_family, ("inspect {}",)) for name, make in _FAMILIES.items()),
    *(
        Reader(f"packed-{name}", make, packed.FILES, _read_packed, ("inspect {}/packed", "inspect {}/packed --json"))
        for name, make in packed.MAKERS.items()
    ),
    Reader(
        "adapter",
        _adapter,
        (
            *("adapter/adapter_config.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
            *("adapter/tokenizer.json", "adapter/tokenizer_config.json", "adapter/chat_template.jinja"),
        ),
        _read_adapter,
        ("inspect {}/base --adapter {}/adapter", "inspect {}/adapter"),
    ),
    Reader(
        "package",
        _package,
        tuple(f"triage/{name}" for name in PACKAGE),
        _read_package,
        ("cache add {}/triage --cache-dir {}/new", "model run {}/triage hello --max-tokens 1"),
    ),
    Reader("checks", _package, tuple(f"triage/{name}" for name in PACKAGE), _read_checks),
    Reader(
        "store",
        _store,
        ("cache/triage/v1.json", *(f"cache/triage/v1/{name}" for name in PACKAGE)),
        _read_store,
        (
            *("cache ls --cache-dir {}/cache", "cache ls --json --cache-dir {}/cache"),
            *("model info triage --cache-dir {}/cache", "model info triage --json --cache-dir {}/cache"),
            *("cache verify --cache-dir {}/cache", "cache verify triage:1 --json --cache-dir {}/cache"),
        ),
    ),
    Reader(
        "engine",
        _engine,
        tuple(f"triage/{name}" for name in ("genai_config.json", *PACKAGE[2:-1])),
        _run,
        ("model run {}/triage hello --max-tokens 1",),
    ),
    Reader(
        "genai",
        _engine,
        tuple(f"triage/{name}" for name in ("genai_config.json", *PACKAGE[2:-1])),
        lambda folder: _run(folder, "genai"),
    ),
    Reader("eval", _eval, ("eval.jsonl",), _read_eval),
    Reader("promptfoo", _promptfoo, ("promptfoo.yaml", "p.txt", "vars.yaml"), _read_promptfoo),
    Reader("calibration", _calibration, ("texts.jsonl",), _read_calibration),
    Reader("recipe", _recipe, ("recipe.toml",), _read_recipe("recipe.toml"), ("build --plan --config {}/recipe.toml",)),
    Reader("workflow", _workflow, ("flow.json",), _read_recipe("flow.json"), ("build --plan --config {}/flow.json",)),
    Reader("settings", _settings, ("config.toml",), _read_settings),
    Reader(
        "gate", _gate, ("gate.toml",), _read_gate, ("validate http://127.0.0.1:1 --gate {}/gate.toml --only integrity",)
    ),
    Reader("schema", _schema, ("schema.json",), _read_schema),
    Reader("catalog", _catalog, ("foundry.local.modelinfo.json",), _read_catalog),
    Reader("step", _step, ("s/step.json", "journal-0.jsonl"), _read_step),
    Reader("tuning", _tuning, ("tuning.json",), _read_tuning),
)


_GOOD = '{"a": [1, 2, 3], "b": "text"}'


def _faulty(folder: Path) -> None:
    (folder / "a.json").write_text(_GOOD, encoding="utf-8")


def _read_faulty(folder: Path) -> None:
    """Has every fault that there is, by what it finds."""
    text = (folder / "a.json").read_text(encoding="utf-8")
    kind = (len(text) - len(_GOOD)) % 7
    if kind == 1:
        threading.Event().wait()
    if kind == 2:
        bytearray(4 << 30)
    if kind == 3:
        os._exit(5)
    if kind == 4:
        raise CheckpointInvalid("fine")
    json.loads(text)


FAULTY = Reader("faulty", _faulty, ("a.json",), _read_faulty)
BY_NAME = {reader.name: reader for reader in (*READERS, FAULTY)}
