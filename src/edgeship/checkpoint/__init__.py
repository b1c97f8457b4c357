"""What was fine-tuned: a folder or Hub id (+ LoRA adapter), read and checked without running any of it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeship.checkpoint import safetensors_file
from edgeship.checkpoint.adapter import Adapter, check_fits, open_adapter
from edgeship.checkpoint.contradictions import refuse_contradictions
from edgeship.checkpoint.dimensions import (
    DAMAGED,
    check_shapes,
    config_fields,
    find_embedding,
    is_tied,
    read_dimensions,
    text_part,
)
from edgeship.checkpoint.families import FAMILIES, STREAMED
from edgeship.checkpoint.folder import require_readable
from edgeship.checkpoint.places import adapter_hint, find_adapter, find_checkpoint, package_name
from edgeship.checkpoint.quantized import Quantized, find_form, plain_copy
from edgeship.checkpoint.safetensors_file import StoredTensor
from edgeship.checkpoint.stop_tokens import StopTokens, find_stop_tokens
from edgeship.checkpoint.tensor_names import usual_names
from edgeship.checkpoint.weight_files import WeightFiles, find_weights, foreign_hint, what_it_holds
from edgeship.errors import ArchitectureUnknown, CheckpointInvalid, TemplateMissing
from edgeship.package import genai_config, plain_jinja
from edgeship.package import template as templates
from edgeship.package import tokenizer as tokenizers
from edgeship.package.genai_config import Search
from edgeship.package.tokenizer import TokenizerFiles
from edgeship.progress import Progress, silent
from edgeship.system import foreign, json_file
from edgeship.system.fields import Fields

__all__ = [
    "Checkpoint",
    "StopTokens",
    "inspection",
    "open_checkpoint",
    "require_template",
    "require_unquantized",
    "scan_weights",
]

GENERATION_NAME = "generation_config.json"
# Of a model card or licence; what is looked for stands at the beginning.
_MOST_OF_A_CARD, _MOST_OF_A_NAME = 1 << 20, 200
_TO_CONVERT = ("transformers", "sentencepiece", "protobuf")
_CONVERT = (
    "import sys; from transformers import AutoTokenizer as T; T.from_pretrained(f := sys.argv[1]).save_pretrained(f)"
)
_GIVE_A_TEMPLATE = "Give a Jinja file in UTF-8."


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose parts agree with each other.

    source: as given. revision: the Hub's commit, None for a folder.
    name: a valid package name made from the source.
    parameters: tied ones counted once; an estimate where `pickle`.
    dtype: what most bytes of the weights are.
    tensors: the base's, by name; empty where `pickle`.
    vocab_size: rows of the embedding, after the adapter. tied_embeddings: before it; see `build.weights`.
    generation, tokenizer, chat_template: what was saved with the adapter counts before the base's.
    template_names: of all templates that lie there; chat_template is None where they leave a choice.
    pickle: the weights are pickle files, which the caller allowed.
    renamed: tensors have other names in their files than here, so that no other reader finds them.
    notes: what is to be said of how the checkpoint was read.
    """

    source: str
    revision: str | None
    folder: Path
    name: str
    architecture: str
    model_type: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    parameters: int
    dtype: str
    vocab_size: int
    context_tokens: int
    tied_embeddings: bool
    hidden_size: int
    layers: int
    kv_heads: int
    head_size: int
    weight_files: tuple[Path, ...]
    weights_bytes: int
    tensors: Mapping[str, StoredTensor]
    tokenizer: TokenizerFiles
    chat_template: str | None
    template_names: tuple[str, ...]
    stop: StopTokens
    licence: str | None
    adapter: Adapter | None
    pickle: bool
    renamed: bool = False
    notes: tuple[str, ...] = ()

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """bos_token, eos_token, ... as the chat template wants them."""
        return self.tokenizer.special_tokens

    @property
    def _files(self) -> dict[str, Path]:
        """Everything that decides a build, by a name that says nothing of where it lies."""
        places = [self.folder] if self.adapter is None else [self.folder, self.adapter.folder]
        configs = [self.folder / "config.json", *(place / GENERATION_NAME for place in places)]
        files = [path for path in (*configs, *self.tokenizer.files, *self.weight_files) if path.is_file()]
        own = () if self.adapter is None else self.adapter.files
        return {path.name if path.parent == self.folder else f"adapter/{path.name}": path for path in (*files, *own)}

    @property
    def search(self) -> Search:
        """How answers are sampled where nobody says otherwise."""
        return genai_config.read_search(json_file.fields_of(self.generation, self.folder / GENERATION_NAME, DAMAGED))

    @property
    def quantized(self) -> Quantized | None:
        """The form in which the weights are kept; None for plain ones."""
        return find_form(self.config, self.tensors)

    @functools.cached_property
    def seen(self) -> dict[str, list[int]]:
        """What the system says of each file that decides a build, as it was when the checkpoint was opened.

        Whoever writes into a file or puts another in its place changes that, also where the contents come back.
        """
        return self._state()

    def require_unchanged(self) -> None:
        """Raises CheckpointInvalid where a file has been written to since the checkpoint was opened."""
        now = self._state()
        changed = sorted(name for name in {*self.seen, *now} if self.seen.get(name) != now.get(name))
        if changed:
            raise CheckpointInvalid(
                f"it was changed while it was read: {', '.join(changed)}",
                where=str(self.folder),
                hint="Run the same command again once nothing writes there.",
            )

    def _state(self) -> dict[str, list[int]]:
        state = {}
        for name, path in self._files.items():
            with contextlib.suppress(OSError):
                stat = path.stat()
                state[name] = [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, path.lstat().st_ino]
        return state

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of everything that decides a build; reads all weights once."""
        from edgeship.system.storage import digest_file

        digests = {name: digest_file(path).sha256 for name, path in self._files.items()}
        if self.chat_template is not None:
            digests["chat template"] = hashlib.sha256(self.chat_template.encode()).hexdigest()
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


def open_checkpoint(
    source: str,
    *,
    adapter: Path | None = None,
    revision: str | None = None,
    chat_template: Path | None = None,
    variables: Mapping[str, Any] = MappingProxyType({}),
    allow_pickle: bool = False,
    progress: Progress = silent,
) -> Checkpoint:
    """Reads and checks a checkpoint: a folder, or a Hub id "org/name" or "org/name@revision".

    A path that exists wins. Every file is looked at, of the weights the headers alone (see `scan_weights`).
    The chat template is `chat_template`, a file or the name of one of several, else the one beside the adapter, else
    the base's. variables: what it is given where a conversation says nothing else; they become part of it.
    Raises CheckpointNotFound, HubFailed, CheckpointInvalid, WeightsDamaged, PickleRefused, AdapterInvalid,
    TemplateInvalid where `chat_template` cannot be read, UsageError where two revisions are given.
    """
    place = find_checkpoint(source, revision, allow_pickle=allow_pickle, progress=progress)
    folder, name, notes = place.folder, place.name, place.notes
    require_readable(folder, DAMAGED)
    config = _read_config(folder)
    where = str(folder / "config.json")
    fields = config_fields(config, folder / "config.json")
    text = text_part(fields)
    with _architecture_first(config, where):
        dimensions = read_dimensions(fields)
    refuse_contradictions(text, where)
    weights = find_weights(folder, allow_pickle=allow_pickle)
    quantized = find_form(config, weights.tensors)
    weights, renaming = _under_usual_names(weights, config, folder)
    notes = (*notes, renaming) if renaming else notes
    shapes = {name: tensor.shape for name, tensor in weights.tensors.items()}
    tied = is_tied(fields, weights.tensors)
    extra_layers = text.count("num_nextn_predict_layers", least=0) or 0
    if quantized is None:
        with _architecture_first(config, where):
            check_shapes(shapes, dimensions, tied=tied, extra_layers=extra_layers, where=where)
    vocab_size = dimensions.vocab_size
    fitted = None
    if adapter is not None:
        beside = find_adapter(adapter, progress)
        fitted, notes = open_adapter(beside.folder), (*notes, *beside.notes)
        name = package_name(f"{name}-{beside.name}")
        if not weights.pickle and quantized is None:
            resized = check_fits(fitted, shapes, tied=tied).get(find_embedding(shapes) or "")
            vocab_size = resized[0] if resized else vocab_size
    places = (folder,) if fitted is None else (fitted.folder, folder)
    generation = _read_generation(places)
    genai_config.read_search(generation)  # what is wrong is told now, and not after the conversion
    tokenizer = _read_tokenizer(folder) if fitted is None else _read_tokenizer_over(folder, fitted)
    found = _find_templates(places)
    template = _read_template(chat_template, found) if chat_template else templates.the_one_meant(found)
    if template is not None and variables:
        template = plain_jinja.with_variables(template, variables)
    dtype = weights.dtype(text.text("dtype") or text.text("torch_dtype"))
    checkpoint = Checkpoint(
        source=source,
        revision=place.commit,
        folder=folder,
        name=name,
        architecture=config["architectures"][0],
        model_type=config["model_type"],
        config=config,
        generation=generation.values,
        parameters=weights.parameters(tied=tied, dtype=dtype),
        dtype=dtype,
        vocab_size=vocab_size,
        context_tokens=dimensions.context_tokens,
        tied_embeddings=tied,
        hidden_size=dimensions.hidden_size,
        layers=dimensions.layers,
        kv_heads=dimensions.kv_heads,
        head_size=dimensions.head_size,
        weight_files=weights.files,
        weights_bytes=weights.size_bytes,
        tensors=weights.tensors,
        tokenizer=tokenizer,
        chat_template=template,
        template_names=tuple(found),
        stop=find_stop_tokens(fields, generation, tokenizer, template, vocab_size),
        licence=_find_licence(folder, config),
        adapter=fitted,
        pickle=weights.pickle,
        renamed=bool(renaming),
        notes=notes,
    )
    _ = checkpoint.seen  # before anything of it is read once more
    return checkpoint


def _under_usual_names(weights: WeightFiles, config: Mapping[str, Any], folder: Path) -> tuple[WeightFiles, str]:
    """The weights by the names that transformers gives them, and what was changed, "" where nothing was."""
    unmerged = next((name for name in weights.tensors if ".lora_A." in name or ".base_layer." in name), None)
    if unmerged is not None:
        raise CheckpointInvalid(
            f"the weights hold an adapter beside the base: {unmerged}",
            where=str(folder),
            hint="Save the adapter by itself and give it as --adapter, or merge it first: model.merge_and_unload().",
        )
    if config["architectures"][0] not in STREAMED:
        return weights, ""
    names, renaming = usual_names(weights.tensors)
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in weights.tensors.items():
        if names[name] in tensors:
            twin = tensors[names[name]].name
            raise CheckpointInvalid(
                f"two tensors are the same weight: {twin} and {name}", where=str(folder), hint="Leave one of them out."
            )
        tensors[names[name]] = tensor
    return replace(weights, tensors=tensors), renaming


@contextlib.contextmanager
def _architecture_first(config: Mapping[str, Any], where: str) -> Iterator[None]:
    """Names an architecture that no builder knows, before the parts of it that are not as expected."""
    try:
        yield
    except CheckpointInvalid as error:
        architecture = config["architectures"][0]
        if architecture in FAMILIES:
            raise
        senses = [name.removesuffix("_config") for name in ("vision_config", "audio_config") if name in config]
        kind = f", a model with {' and '.join(senses)}" if senses else ""
        raise ArchitectureUnknown(
            f"no builder here knows the architecture {architecture}{kind}; besides, {error.what}",
            where=where,
            hint=f"Text models are built: {', '.join(FAMILIES)}.",
        ) from error


def require_template(checkpoint: Checkpoint) -> str:
    """The chat template. Raises TemplateMissing."""
    if checkpoint.chat_template is None and checkpoint.template_names:
        raise TemplateMissing(
            f"there are several chat templates and none is called {templates.DEFAULT!r}: "
            f"{', '.join(checkpoint.template_names)}",
            where=str(checkpoint.tokenizer.folder),
            hint=f"Name the one that the model was trained with: --chat-template {checkpoint.template_names[0]}",
        )
    if checkpoint.chat_template is None:
        raise TemplateMissing(
            "the tokenizer has no chat template, so a conversation cannot be turned into a prompt",
            where=str(checkpoint.folder),
            hint="Pass the template that the model was trained with: --chat-template FILE.",
        )
    return checkpoint.chat_template


def require_unquantized(checkpoint: Checkpoint) -> None:
    """Raises CheckpointInvalid for weights that are quantized already."""
    found, plain = checkpoint.quantized, plain_copy(checkpoint.source)
    if found is not None:
        raise CheckpointInvalid(
            f"the checkpoint is quantized already: {found.form}, as {found.shown_by}",
            where=str(checkpoint.folder / "config.json"),
            hint=found.hint if plain == checkpoint.source else f"{found.hint} Presumably that is {plain}.",
        )


def scan_weights(checkpoint: Checkpoint, progress: Progress = silent) -> None:
    """Reads every tensor of the base and the adapter once. Pickles are not read.

    Raises WeightsDamaged that names the tensor for NaN, infinity or a size beyond 1e5, as a flipped bit leaves.
    """
    tensors = list(checkpoint.tensors.values())
    if checkpoint.adapter is not None:
        tensors += safetensors_file.read_header(checkpoint.adapter.files[1]).values()
    total, done = sum(tensor.nbytes for tensor in tensors) or 1, 0
    for tensor in tensors:
        progress("checking the weights", done / total)
        found = safetensors_file.find_absurd(tensor)
        if found is not None:
            raise safetensors_file.absurd_value(tensor, *found)
        done += tensor.nbytes
    progress("checking the weights", 1.0)


def inspection(checkpoint: Checkpoint) -> dict[str, Any]:
    """All that is known of a checkpoint, as plain values for JSON."""
    stop, adapter, quantized = checkpoint.stop, checkpoint.adapter, checkpoint.quantized

    def token(number: int | None) -> dict[str, Any] | None:
        return None if number is None else {"id": number, "text": stop.texts.get(number)}

    return {
        "source": checkpoint.source,
        "revision": checkpoint.revision,
        "folder": str(checkpoint.folder),
        "name": checkpoint.name,
        "architecture": checkpoint.architecture,
        "model_type": checkpoint.model_type,
        "parameters": checkpoint.parameters,
        "parameters_estimated": checkpoint.pickle,
        "dtype": checkpoint.dtype,
        "quantization": quantized.form if quantized else None,
        "weights_bytes": checkpoint.weights_bytes,
        "weight_files": [path.name for path in checkpoint.weight_files],
        "pickle": checkpoint.pickle,
        "layers": checkpoint.layers,
        "hidden_size": checkpoint.hidden_size,
        "kv_heads": checkpoint.kv_heads,
        "head_size": checkpoint.head_size,
        "tied_embeddings": checkpoint.tied_embeddings,
        "vocab_size": checkpoint.vocab_size,
        "context_tokens": checkpoint.context_tokens,
        "chat_template": checkpoint.chat_template is not None,
        "bos": token(stop.bos_id),
        "eos": [token(number) for number in stop.eos_ids],
        "pad": token(stop.pad_id),
        "disagreements": list(stop.disagreements),
        "licence": checkpoint.licence,
        "notes": list(checkpoint.notes),
        "adapter": None if adapter is None else _adapter_inspection(adapter),
    }


def _adapter_inspection(adapter: Adapter) -> dict[str, Any]:
    return {
        "folder": str(adapter.folder),
        "base": adapter.base,
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "targets": list(adapter.targets),
        "use_rslora": adapter.use_rslora,
        "use_dora": adapter.use_dora,
    }


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointInvalid(
            f"this is no checkpoint: there is no config.json; {what_it_holds(folder)}",
            where=str(folder),
            hint=adapter_hint(folder) or foreign_hint(folder),
        )
    config = json_file.read_object(path, DAMAGED)
    architectures = config.get("architectures")
    named = isinstance(architectures, list) and architectures and isinstance(architectures[0], str)
    missing = [] if named else ["architectures"]
    missing += [] if isinstance(config.get("model_type"), str) else ["model_type"]
    if missing:
        raise CheckpointInvalid(
            f"config.json lacks {' and '.join(missing)}",
            where=str(path),
            hint="Take config.json from the model that was fine-tuned.",
        )
    return config


def _read_tokenizer(folder: Path) -> TokenizerFiles:
    _require_tokenizer(folder)
    return tokenizers.read(folder, DAMAGED)


def _require_tokenizer(folder: Path) -> None:
    if not (folder / tokenizers.FILE_NAME).is_file():
        slow = (folder / "tokenizer.model").is_file() or (folder / "vocab.json").is_file()
        convert = (
            f"Make it with transformers: {shlex.join((sys.executable, '-m', 'pip', 'install', *_TO_CONVERT))}; "
            f"{shlex.join((sys.executable, '-c', _CONVERT, str(folder)))}"
        )
        raise CheckpointInvalid(
            f"there is no {tokenizers.FILE_NAME}",
            where=str(folder),
            hint=convert if slow else "Copy the tokenizer's files from the base model.",
        )


def _read_tokenizer_over(folder: Path, adapter: Adapter) -> TokenizerFiles:
    """The base's tokenizer as it was trained: what was saved with the adapter counts first."""
    if not (adapter.folder / tokenizers.FILE_NAME).is_file():
        _require_tokenizer(folder)
    return tokenizers.read_over(folder, adapter.folder, DAMAGED)


def _read_generation(places: Sequence[Path]) -> Fields:
    """generation_config.json of the first folder that has one."""
    files = [path for place in places if (path := place / GENERATION_NAME).is_file()]
    return json_file.read_fields(files[0], DAMAGED) if files else json_file.fields_of({}, places[0], DAMAGED)


def _find_templates(places: Sequence[Path]) -> dict[str, str]:
    """The chat templates of the first folder that has any."""
    for place in places:
        config = json_file.read_optional(place / tokenizers.CONFIG_NAME, DAMAGED)
        found = templates.find_all(place, config)
        if found:
            return found
    return {}


def _read_template(given: Path, found: Mapping[str, str]) -> str:
    """The template in a file, or the one of this name among those that were found."""
    if str(given) in found and not given.is_file():
        return found[str(given)]
    return templates.read(given, _GIVE_A_TEMPLATE, named=True)


def _find_licence(folder: Path, config: Mapping[str, Any]) -> str | None:
    on_card = _card_licence(_read_text(folder / "README.md"))
    if on_card is not None:
        return on_card
    in_config = config.get("license")
    if isinstance(in_config, str) and in_config:
        return in_config
    texts = (_read_text(path).strip() for path in sorted(folder.glob("LICEN[CS]E*")))
    return next((text.splitlines()[0][:_MOST_OF_A_NAME].strip() for text in texts if text), None)


def _card_licence(card: str) -> str | None:
    """The licence in a model card's front matter; its name where it is none of the Hub's known ones."""
    fields: dict[str, str] = {}
    open_key = ""  # of a list, whose first item counts
    for line in _front_matter(card):
        key, colon, value = line.partition(":")
        if colon and key in ("license", "license_name"):
            open_key = "" if value.strip() else key
            fields |= {key: value} if value.strip() else {}
        elif open_key and line.strip():
            fields |= {open_key: line.strip()[1:]} if line.strip().startswith("-") else {}
            open_key = ""
    stated = {key: value.strip().strip("'\"") for key, value in fields.items()}
    licence = stated.get("license")
    return stated.get("license_name", licence) if licence == "other" else licence


def _front_matter(card: str) -> list[str]:
    """The lines between a card's first line and the next one that begin with ---; none where it has no such."""
    first, *rest = card.replace("\r\n", "\n").split("\n")
    end = next((number for number, line in enumerate(rest) if line.startswith("---")), None)
    return rest[:end] if first.rstrip() == "---" and end is not None else []


def _read_text(path: Path) -> str:
    """The beginning of a text that nothing depends on; empty where it cannot be read."""
    try:
        with foreign.open_file(path) as stream:
            return stream.read(_MOST_OF_A_CARD).decode(errors="replace")
    except OSError:
        return ""
