"""An Olive workflow (JSON) as a Recipe. Every field is honoured, or noted by name, or refused by its JSON path.

A field is noted when leaving it out cannot change the model that comes out, and refused when it could. Paths inside a
workflow are relative to the working directory, as in Olive. `render` goes the other way: what it writes is read back as
the same recipe, and Olive 0.13 runs it as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeship.errors import PrecisionUnsupported, RecipeInvalid
from edgeship.recipe import Precision, Recipe, RecipeFile
from edgeship.system import foreign, json_file

CPU = "CPUExecutionProvider"
_SHOWN = 60

_NOTED = {
    "$schema": "it is for editors",
    "cache_config": "steps are cached by content in edgeship's own folder",
    "cache_dir": "steps are cached by content in edgeship's own folder",
    "clean_cache": "a step is made again when anything that decides it changes",
    "clean_evaluation_cache": "measurements are not cached",
    "data_configs": "a ModelBuilder pass reads no data",
    "enable_shared_cache": "steps are cached by content in edgeship's own folder",
    "evaluate_input_model": "`edgeship ship` compares with the original by itself",
    "evaluator": "`edgeship ship` measures by itself",
    "evaluators": "`edgeship ship` measures by itself",
    "log_severity_level": "use --log_level",
    "log_to_file": "redirect stderr instead",
    "no_artifacts": "nothing but the model is written",
    "ort_log_severity_level": "use --log_level",
    "ort_py_log_severity_level": "use --log_level",
    "plot_pareto_frontier": "`edgeship ship` draws its own comparison",
    "workflow_id": "a build is named by its content",
}
_LOADING = ("attention_implementation", "attn_implementation", "dtype", "torch_dtype", "trust_remote_code")
"""Of load_kwargs, what Olive's documentation also writes beside model_path."""
_MODEL_NOTED = {
    "$schema": "it is for editors",
    "generative": "every model here is",
    "io_config": "inputs and outputs are those that onnxruntime-genai expects",
    "model_attributes": "read from config.json",
}
_LOADING_NOTED = {
    "$schema": "it is for editors",
    "attention_implementation": "the ONNX graph has attention of its own",
    "attn_implementation": "the ONNX graph has attention of its own",
    "device_map": "conversion runs on the CPU",
    "low_cpu_mem_usage": "conversion loads FP32",
    "max_memory": "conversion runs on the CPU",
    "use_safetensors": "safetensors are always preferred",
}
_LOADING_AS_DONE: dict[str, tuple[Any, ...]] = {
    "trust_remote_code": (False,),
    "torch_dtype": ("auto", "float32"),
    "dtype": ("auto", "float32"),
}
_ROUNDED = "would round the weights before they are converted: they are read as they are stored, so leave it out"
_WHY_NOT = {"trust_remote_code": "code from a checkpoint is never run", "torch_dtype": _ROUNDED, "dtype": _ROUNDED}
_TASKS = ("text-generation", "text-generation-with-past")

# What the ModelBuilder pass calls a field of the recipe; each is also known with the prefix "int4_".
_QUANTIZATION = {
    "block_size": "block_size",
    "is_symmetric": "symmetric",
    "accuracy_level": "accuracy_level",
    "algo_config": "method",
}
_METHODS = {"default": "rtn", "rtn": "rtn", "k_quant": "k_quant"}
_ALGORITHMS = {"rtn": "default", "k_quant": "k_quant"}
# ModelBuilder options with the only values that say what is done here anyway.
_BUILDER_AS_DONE: dict[str, tuple[Any, ...]] = {
    "disable_qkv_fusion": (False, None),
    "enable_cuda_graph": (False, None),
    "enable_webgpu_graph": (False, None),
    "exclude_embeds": (False, None),
    "exclude_lm_head": (False, None),
    "filename": ("model.onnx", None),
    "hf_remote": (False, None),
    "hf_token": ("false", False, None),
    "include_hidden_states": (False, None),
    "int4_nodes_to_exclude": (None, []),
    "int4_op_types_to_quantize": (None, [], ["MatMul"]),
    "metadata_only": (False, None),
    "prune_lm_head": (True, None),
    "shared_embeddings": (True, None),
    "use_8bits_moe": (False, None),
    "use_cuda_bf16": (False, None),
    "use_qdq": (False, None),
    "use_webgpu_fp32": (False, None),
}
_BUILDER_NOTED = {
    "$schema": "it is for editors",
    "evaluator": "`edgeship ship` measures by itself",
    "hf_token": "the Hub account is that of the environment",
}
_SYSTEM_NOTED = {
    "$schema": "it is for editors",
    "hf_token": "the Hub account is that of the environment",
    "memory": "use --memory",
}


@dataclass
class _Findings:
    """What one reading of a workflow gathers. sources: the JSON path that gave each field of the recipe."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def refuse(self, path: str, reason: str) -> None:
        self.faults.append(f"{path}: {reason}")

    def note(self, path: str, reason: str) -> None:
        self.notes.append(f"{path} is not used: {reason}")

    def honour(self, name: str, value: Any, path: str) -> None:
        if name in self.recipe and self.recipe[name] != value:
            self.refuse(path, f"says {_show(value)}, but {self.sources[name]} says {_show(self.recipe[name])}")
        self.recipe[name] = value
        self.sources[name] = path

    def mapping(self, value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        self.refuse(path, f"must be an object, not {_show(value)}")
        return {}


def render(
    recipe: Recipe,
    checkpoint_path: Path | str,
    adapter_path: Path | str | None,
    output_dir: Path | str,
    cache_dir: Path | str | None = None,
) -> str:
    """The workflow (JSON) by which Olive 0.13 builds the recipe; `parse` reads the recipe back from it.

    A workflow has no place for the recipe's name and builder. Without `cache_dir` Olive uses .olive-cache in the
    working directory. Raises what `require_expressible` raises.
    """
    require_expressible(recipe)
    model: dict[str, Any] = {"type": "HfModel", "model_path": str(checkpoint_path)}
    passes: dict[str, Any] = {}
    if adapter_path is not None:
        # Without the merge, ModelBuilder leaves the adapter beside each matrix, as two more to multiply by; and the
        # sum is made in FP32, whatever the base is stored in.
        model |= {"adapter_path": str(adapter_path), "load_kwargs": {"torch_dtype": "float32"}}
        passes["merge"] = {"type": "MergeAdapterWeights"}
    passes["builder"] = {"type": "ModelBuilder", **_pass_options(recipe)}
    workflow = {
        "input_model": model,
        "systems": {
            "local_system": {
                "type": "LocalSystem",
                "accelerators": [{"device": "cpu", "execution_providers": [recipe.provider]}],
            }
        },
        "host": "local_system",
        "target": "local_system",
        "passes": passes,
        "output_dir": str(output_dir),
    }
    if cache_dir is not None:
        workflow["cache_dir"] = str(cache_dir)
    return json.dumps(workflow, indent=2, ensure_ascii=False) + "\n"


def require_expressible(recipe: Recipe) -> None:
    """Raises PrecisionUnsupported and RecipeInvalid, by name, for what no workflow can ask of Olive 0.13 on a CPU."""
    if recipe.precision is Precision.FP16:
        raise PrecisionUnsupported(
            "Olive's ModelBuilder has no fp16 for CPUs", hint="Use fp32 or int4, or build without Olive."
        )
    if recipe.precision is Precision.INT8:
        raise PrecisionUnsupported(
            "Olive's ModelBuilder accepts int8, but onnxruntime-genai 0.14.1 behind it fails on it",
            hint="Use fp32 or int4, or build without Olive.",
        )
    if not recipe.precision.quantized:
        return
    lacking = [name for name in ("bits", "tolerance", "calibration") if getattr(recipe, name) is not None]
    if recipe.method is not None and recipe.method not in _ALGORITHMS:
        lacking.append(f"method {recipe.method}")
    if lacking:
        raise RecipeInvalid(
            f"Olive's ModelBuilder cannot do {', '.join(lacking)}",
            hint=f"Leave it out, or build without Olive. Its methods: {', '.join(_ALGORITHMS)}.",
        )


def _pass_options(recipe: Recipe) -> dict[str, Any]:
    options: dict[str, Any] = {"precision": recipe.precision.value}
    if recipe.precision.quantized:
        options |= {
            "int4_block_size": recipe.block_size,
            "int4_is_symmetric": recipe.symmetric,
            "int4_accuracy_level": recipe.accuracy_level,
        }
        if recipe.method is not None:
            options["int4_algo_config"] = _ALGORITHMS[recipe.method]
    # Logits of the last position only, and no code from the checkpoint: by default the builder does otherwise.
    options["extra_options"] = {"prune_lm_head": True, "hf_remote": False, "hf_token": "false"}
    return options


def parse(text: str, *, where: str) -> RecipeFile:
    """The recipe of an Olive workflow. Raises RecipeInvalid that lists every fault by its JSON path."""
    workflow = _load(text, where)
    found = _Findings()
    engine = found.mapping(workflow.pop("engine", {}), "engine")
    fields = _joined(_placed(workflow, ""), _placed(engine, "engine."), found)
    model = _read_model(fields.pop("input_model", None), found)
    _read_systems(fields, _read_passes(fields, found), found)
    path, value = fields.pop("quantization_config", ("", {}))
    _read_quantization(found.mapping(value, path), path, found)
    output = _read_path(fields.pop("output_dir", None), found)
    _read_rest(fields, found)
    recipe = _make_recipe(found)
    if found.faults or recipe is None:
        raise RecipeInvalid(
            "; ".join(found.faults),
            where=where,
            hint="Mend these fields, or take them out where the default will do.",
        )
    adapter = model.get("adapter_path")
    return RecipeFile(
        recipe=recipe,
        checkpoint=model.get("model_path"),
        adapter=Path(adapter) if adapter else None,
        output=output,
        notes=tuple(found.notes),
    )


def _load(text: str, where: str) -> dict[str, Any]:
    try:
        value = json_file.parse(text)
    except ValueError as error:
        raise RecipeInvalid(
            f"not valid JSON: {error}",
            where=where,
            hint="Mend the syntax there; JSON has no comments and no comma before a closing bracket.",
        ) from error
    if not isinstance(value, dict):
        raise RecipeInvalid("an Olive workflow is a JSON object", where=where, hint='Begin with {"input_model": ...}.')
    return value


def _placed(fields: dict[str, Any], prefix: str) -> dict[str, tuple[str, Any]]:
    """Fields by name, each with its path."""
    return {name: (f"{prefix}{name}", value) for name, value in fields.items()}


def _joined(
    fields: dict[str, tuple[str, Any]], older: dict[str, tuple[str, Any]], found: _Findings
) -> dict[str, tuple[str, Any]]:
    """Fields from the two places that Olive's forms have for them; one that says something else in each is refused."""
    for name, (other_path, other) in older.items():
        path, value = fields.get(name, (other_path, other))
        if value != other:
            found.refuse(other_path, f"says {_show(other)}, but {path} says {_show(value)}")
    return fields | older


def _flat(value: dict[str, Any], path: str, found: _Findings) -> list[tuple[str, str, Any]]:
    """Fields as (name, path, value), with those under "config" lifted to where Olive's newer form has them."""
    newer = _placed({name: inner for name, inner in value.items() if name != "config"}, f"{path}.")
    older = _placed(found.mapping(value.get("config", {}), f"{path}.config"), f"{path}.config.")
    return [(name, where, inner) for name, (where, inner) in _joined(newer, older, found).items()]


def _read_model(entry: tuple[str, Any] | None, found: _Findings) -> dict[str, str]:
    """model_path and adapter_path."""
    if entry is None:
        return {}
    model: dict[str, str] = {}
    loading: tuple[str, Any] = ("", {})
    for name, path, value in _flat(found.mapping(entry[1], entry[0]), entry[0], found):
        if name in ("model_path", "adapter_path"):
            if (named := _read_path((path, value), found)) is not None:
                model[name] = value if name == "model_path" else str(named)
        elif name == "type":
            if str(value).lower() != "hfmodel":
                found.refuse(path, f"only HfModel can be built, not {_show(value)}")
        elif name == "task":
            if value not in _TASKS:
                found.refuse(path, f"only text-generation can be built, not {_show(value)}")
        elif name == "load_kwargs":
            loading = (path, {} if value is None else value)
        elif name in _LOADING:
            _read_loading({name: value}, entry[0], found)
        elif name in _MODEL_NOTED:
            found.note(path, _MODEL_NOTED[name])
        else:
            found.refuse(path, "is not known here")
    revision = _read_loading(found.mapping(loading[1], loading[0]), loading[0], found)
    if revision and "model_path" in model:
        model["model_path"] += f"@{revision}"
    return model


def _read_loading(options: dict[str, Any], path: str, found: _Findings) -> str | None:
    """The revision, where load_kwargs pins one."""
    revision = options["revision"] if isinstance(options.get("revision"), str) else None
    for name, value in options.items():
        if name == "extra_args":
            within = f"{path}.{name}"
            inner = _read_loading(found.mapping({} if value is None else value, within), within, found)
            if revision and inner and inner != revision:
                found.refuse(f"{within}.revision", f"says {_show(inner)}, but {path}.revision says {_show(revision)}")
            revision = revision or inner
        elif name == "revision" and isinstance(value, str):
            continue
        elif name in _LOADING_NOTED:
            found.note(f"{path}.{name}", _LOADING_NOTED[name])
        elif value is not None and not _among(value, _LOADING_AS_DONE.get(name, ())):
            found.refuse(f"{path}.{name}", f"{_show(value)} {_WHY_NOT.get(name, 'cannot be honoured')}")
    return revision


def _read_systems(fields: dict[str, tuple[str, Any]], hosts: list[tuple[str, Any]], found: _Findings) -> None:
    """Checks that what the workflow builds for, and where it builds, is this machine's CPU. `hosts`: of passes."""
    path, systems = fields.pop("systems", ("systems", {}))
    systems = found.mapping(systems, path)
    used: dict[str, Any] = {}
    for role_path, value in (fields.pop("host", ("host", None)), fields.pop("target", ("target", None)), *hosts):
        if isinstance(value, dict):
            used[role_path] = value
        elif isinstance(value, str) and value in systems:
            used[f"{path}.{value}"] = systems[value]
        elif value is not None and value != "local_system":
            found.refuse(role_path, f"names no system of this file: {_show(value)}")
    if not used:
        used = {f"{path}.{name}": system for name, system in systems.items()}
    for name in systems:
        if f"{path}.{name}" not in used:
            found.note(f"{path}.{name}", "neither host nor target names it")
    for system_path, system in used.items():
        _read_system(found.mapping(system, system_path), system_path, found)


def _read_system(system: dict[str, Any], path: str, found: _Findings) -> None:
    for name, where, value in _flat(system, path, found):
        if name == "type":
            if str(value).lower() != "localsystem":
                found.refuse(where, f"only LocalSystem is built for, not {_show(value)}")
        elif name == "accelerators":
            for index, accelerator in enumerate(value if isinstance(value, list) else [value]):
                _read_accelerator(found.mapping(accelerator, f"{where}[{index}]"), f"{where}[{index}]", found)
        elif name in _SYSTEM_NOTED:
            found.note(where, _SYSTEM_NOTED[name])
        elif value not in (None, {}, []):
            found.refuse(where, "is not known here")


def _read_accelerator(accelerator: dict[str, Any], path: str, found: _Findings) -> None:
    for name, value in accelerator.items():
        if name == "device":
            if str(value).lower() != "cpu":
                found.refuse(f"{path}.device", f"only cpu is built for, not {_show(value)}")
        elif name == "execution_providers":
            for index, provider in enumerate(value if isinstance(value, list) else [value]):
                # Olive also writes a provider as [name, options].
                given = provider[0] if isinstance(provider, list) and provider else provider
                if given != CPU:
                    found.refuse(f"{path}.execution_providers[{index}]", f"only {CPU} is built for, not {_show(given)}")
        elif name in _SYSTEM_NOTED:
            found.note(f"{path}.{name}", _SYSTEM_NOTED[name])
        else:
            found.refuse(f"{path}.{name}", "is not known here")


def _read_passes(fields: dict[str, tuple[str, Any]], found: _Findings) -> list[tuple[str, Any]]:
    """The one ModelBuilder pass; a MergeAdapterWeights pass before it asks for what is done anyway.

    Returns the hosts that passes name, each with its path.
    """
    path, passes = fields.pop("passes", ("passes", None))
    hosts: list[tuple[str, Any]] = []
    if not passes:
        found.refuse(path, "a ModelBuilder pass with a precision is needed")
        return hosts
    builders = 0
    for name, value in found.mapping(passes, path).items():
        # Olive lets a name stand for alternatives; with one in the list there is nothing to choose.
        alone = value[0] if isinstance(value, list) and len(value) == 1 else value
        step = dict(found.mapping(alone, f"{path}.{name}"))
        if "host" in step:
            hosts.append((f"{path}.{name}.host", step.pop("host")))
        kind = str(step.get("type", "")).lower()
        if kind == "modelbuilder":
            builders += 1
            _read_builder(step, f"{path}.{name}", found)
        elif kind == "mergeadapterweights":
            found.note(f"{path}.{name}", "an adapter is always merged")
        elif step:
            found.refuse(f"{path}.{name}.type", f"the pass {_show(step.get('type'))} cannot be honoured")
    if builders > 1:
        found.refuse(path, f"has {builders} ModelBuilder passes; one can be built at a time")
    if builders == 0:
        found.refuse(path, "has no ModelBuilder pass")
    return hosts


def _read_builder(step: dict[str, Any], path: str, found: _Findings) -> None:
    for name, where, value in _flat(step, path, found):
        if name == "type":
            continue
        if name == "precision":
            found.honour("precision", value.lower() if isinstance(value, str) else value, where)
        elif name in ("quantization_config", "extra_options"):
            _read_quantization(found.mapping({} if value is None else value, where), where, found)
        elif name == "search":
            if value:
                found.note(where, "settings of a running model are chosen when it is packaged")
        else:
            _read_quantization({name: value}, where.rpartition(".")[0], found)


def _read_quantization(options: Mapping[str, Any], path: str, found: _Findings) -> None:
    for name, value in options.items():
        where = f"{path}.{name}"
        plain = name.removeprefix("int4_")
        if plain in _QUANTIZATION:
            if value is None:
                continue
            if plain == "algo_config" and not (isinstance(value, str) and value in _METHODS):
                found.refuse(where, f"{_show(value)} is not one of {', '.join(_METHODS)}")
            else:
                found.honour(_QUANTIZATION[plain], _METHODS[value] if plain == "algo_config" else value, where)
        elif _among(value, _BUILDER_AS_DONE.get(name, ())):
            continue
        elif name in _BUILDER_NOTED:
            found.note(where, _BUILDER_NOTED[name])
        else:
            known = name in _BUILDER_AS_DONE
            found.refuse(where, f"{_show(value)} cannot be honoured" if known else "is not known here")


def _read_path(entry: tuple[str, Any] | None, found: _Findings) -> Path | None:
    if entry is None or entry[1] is None:
        return None
    try:
        return foreign.named_path(entry[1])
    except ValueError as error:
        found.refuse(entry[0], f"must be a path, not {_show(entry[1])}: {error}")
    return None


def _read_rest(fields: dict[str, tuple[str, Any]], found: _Findings) -> None:
    for name, (path, value) in fields.items():
        if name in _NOTED:
            found.note(path, _NOTED[name])
        elif name == "search_strategy":
            if not _among(value, (None, False, {})):
                found.refuse(path, "there is nothing to search: one recipe makes one model")
        elif name == "pass_flows":
            if not _among(value, (None, [])):
                found.refuse(path, "passes run in the order in which they are written")
        else:
            found.refuse(path, "is not known here")


def _make_recipe(found: _Findings) -> Recipe | None:
    if "precision" not in found.recipe and not found.faults:
        found.refuse("passes", "the ModelBuilder pass gives no precision")
    try:
        recipe = Recipe.model_validate(found.recipe)
    except ValidationError as error:
        for fault in error.errors():
            name = str(fault["loc"][0]) if fault["loc"] else ""
            if name in found.sources:
                found.refuse(found.sources[name], f"{fault['msg']}, not {_show(fault['input'])}")
        return None
    if not recipe.precision.quantized:
        for name in found.recipe.keys() - {"precision"}:
            found.note(found.sources[name], "only INT8 and INT4 have it")
    return recipe


def _among(value: Any, allowed: tuple[Any, ...]) -> bool:
    """Membership that tells 0 from False."""
    return any(type(value) is type(one) and value == one for one in allowed)


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
