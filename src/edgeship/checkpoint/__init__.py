"""What was fine-tuned: a folder or Hub id (+ LoRA adapter), read and checked without running any of it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeship.checkpoint import safetensors_file
from edgeship.checkpoint.adapter import Adapter, leave_out, open_adapter
from edgeship.checkpoint.adapter_experts import place_changes
from edgeship.checkpoint.adapter_fit import check_fits
from edgeship.checkpoint.adapter_modules import find_gaps
from edgeship.checkpoint.contradictions import refuse_contradictions
from edgeship.checkpoint.dimensions import (
    DAMAGED,
    Dimensions,
    check_shapes,
    config_fields,
    find_embedding,
    is_tied,
    read_dimensions,
    text_part,
)
from edgeship.checkpoint.families import FAMILIES, find_family, find_traits, is_wrapped
from edgeship.checkpoint.folder import require_readable
from edgeship.checkpoint.generation import FILE_NAME as GENERATION_NAME
from edgeship.checkpoint.licence import find_licence
from edgeship.checkpoint.packed import Packed, Tensor
from edgeship.checkpoint.places import Place, adapter_hint, find_adapter, find_checkpoint, package_name
from edgeship.checkpoint.quantized import Quantized, find_form, plain_copy
from edgeship.checkpoint.safetensors_file import StoredTensor
from edgeship.checkpoint.saved import Saved, read_saved
from edgeship.checkpoint.stop_tokens import StopTokens, find_stop_tokens
from edgeship.checkpoint.tensor_names import (
    guesses_ahead,
    of_adapters,
    others_than_text,
    unmerged,
    usual_module,
    usual_names,
)
from edgeship.checkpoint.unpacking import unpack
from edgeship.checkpoint.weight_files import WeightFiles, find_weights, foreign_hint, what_it_holds
from edgeship.errors import ArchitectureUnknown, CheckpointInvalid, TemplateMissing
from edgeship.package import genai_config
from edgeship.package import template as templates
from edgeship.package.genai_config import Search
from edgeship.package.tokenizer import TokenizerFiles
from edgeship.progress import Progress, silent
from edgeship.system import json_file
from edgeship.system.fields import Fields

__all__ = [
    "Checkpoint",
    "StopTokens",
    "open_checkpoint",
    "require_readable_weights",
    "require_template",
    "scan_weights",
]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose parts agree with each other.

    source: as given. revision: the Hub's commit, None for a folder.
    name: a valid package name made from the source.
    parameters: tied ones counted once; an estimate where `pickle`.
    dtype: what most bytes of the weights are.
    tensors: the base's, by name, packed matrices as one; empty where `pickle`.
    quantized: the form in which the weights are kept; None for plain ones.
    vocab_size: rows of the embedding, after the adapter. tied_embeddings: before it; see `build.weights`.
    generation, tokenizer, chat_template: what was saved with the adapter counts before the base's.
    template_names: of all templates that lie there; chat_template is None where they leave a choice.
    pickle: the weights are pickle files, which the caller allowed.
    renamed: tensors have other names in their files than here, so that no other reader finds them.
    partial: it is a part of what lies there, and the rest is left out.
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
    tensors: Mapping[str, Tensor]
    tokenizer: TokenizerFiles
    chat_template: str | None
    template_names: tuple[str, ...]
    stop: StopTokens
    licence: str | None
    adapter: Adapter | None
    pickle: bool
    quantized: Quantized | None = None
    renamed: bool = False
    partial: bool = False
    notes: tuple[str, ...] = ()

    @property
    def streamed(self) -> bool:
        """Whether the streaming builder knows the family."""
        return find_family(self.config) is not None

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
    require_readable(place.folder, DAMAGED)
    model = _read_model(place.folder, allow_pickle=allow_pickle)
    fitted = None
    if adapter is not None:
        beside = find_adapter(adapter, progress)
        fitted, also_left = leave_out(open_adapter(beside.folder), model.left)
        notes = (*place.notes, *beside.notes, *filter(None, (also_left,)))
        place = replace(place, name=package_name(f"{place.name}-{beside.name}"), notes=notes)
    saved = read_saved(place.folder, fitted.folder if fitted else None, chat_template, variables)
    checkpoint = _put_together(source, place, model, fitted, saved)
    _ = checkpoint.seen  # before anything of it is read once more
    return checkpoint


def _put_together(source: str, place: Place, model: _Model, adapter: Adapter | None, saved: Saved) -> Checkpoint:
    vocab_size = model.dimensions.vocab_size if adapter is None else model.vocab_size_with(adapter)
    dtype = model.weights.dtype(model.text.text("dtype") or model.text.text("torch_dtype"))
    return Checkpoint(
        source=source,
        revision=place.commit,
        folder=place.folder,
        name=place.name,
        architecture=model.config["architectures"][0],
        model_type=model.config["model_type"],
        config=model.config,
        generation=saved.generation.values,
        parameters=model.weights.parameters(tied=model.tied, dtype=dtype),
        dtype=dtype,
        vocab_size=vocab_size,
        context_tokens=model.dimensions.context_tokens,
        tied_embeddings=model.tied,
        hidden_size=model.dimensions.hidden_size,
        layers=model.dimensions.layers,
        kv_heads=model.dimensions.kv_heads,
        head_size=model.dimensions.head_size,
        weight_files=model.weights.files,
        weights_bytes=model.weights.size_bytes,
        tensors=model.weights.tensors,
        tokenizer=saved.tokenizer,
        chat_template=saved.template,
        template_names=saved.template_names,
        stop=find_stop_tokens(model.fields, saved.generation, saved.tokenizer, saved.template, vocab_size),
        licence=find_licence(place.folder, model.config),
        adapter=adapter,
        pickle=model.weights.pickle,
        quantized=model.quantized,
        renamed=bool(model.renaming),
        partial=bool(model.left),
        notes=(*place.notes, *model.notes_with(adapter), *saved.notes),
    )


@dataclass(frozen=True)
class _Model:
    """The model itself: what config.json says of it, and its weights.

    fields: of config.json. text: the part of them that describes the text model.
    renaming: what was changed in the tensors' names, "" where nothing was.
    left: the usual names of tensors that are left out.
    """

    config: Mapping[str, Any]
    fields: Fields
    text: Fields
    dimensions: Dimensions
    weights: WeightFiles
    renaming: str
    quantized: Quantized | None
    tied: bool
    left: frozenset[str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors."""
        return {name: tensor.shape for name, tensor in self.weights.tensors.items()}

    def vocab_size_with(self, adapter: Adapter) -> int:
        """Rows of the embedding once the adapter is merged. Raises AdapterInvalid where it is of another base."""
        if not self.readable:
            return self.dimensions.vocab_size
        shapes = self.shapes
        resized = check_fits(adapter, shapes, find_traits(self.config), tied=self.tied).get(
            find_embedding(shapes) or ""
        )
        return resized[0] - self.dimensions.beyond_vocabulary if resized else self.dimensions.vocab_size

    @property
    def readable(self) -> bool:
        """Whether the shapes of the weights are known."""
        return not self.weights.pickle and (self.quantized is None or self.quantized.packing is not None)

    def notes_with(self, adapter: Adapter | None) -> list[str]:
        """What was changed in names, what was lost before, and what the adapter lacks that its config asks for."""
        notes = [self.renaming] if self.renaming else []
        if self.quantized is not None and self.quantized.packing is not None:
            notes.append(f"the weights were quantized before, and what that lost stays lost: {self.quantized.form}")
            if adapter is not None:
                notes.append("the adapter is merged into the dequantized weights")
        if adapter is not None and self.readable:
            notes += find_gaps(adapter, place_changes(adapter, self.shapes, find_traits(self.config)), self.shapes)
        return notes


def _read_model(folder: Path, *, allow_pickle: bool) -> _Model:
    config = _read_config(folder)
    where = str(folder / "config.json")
    fields = config_fields(config, folder / "config.json")
    text = text_part(fields)
    with _architecture_first(config, where):
        dimensions = read_dimensions(fields)
        refuse_contradictions(fields, where)
    stored = find_weights(folder, allow_pickle=allow_pickle)
    parts = {name: tensor for name, tensor in stored.tensors.items() if isinstance(tensor, StoredTensor)}
    quantized = find_form(fields, parts)
    if quantized is not None and quantized.packing is not None:
        stored = replace(stored, tensors=unpack(parts, quantized.packing))
        quantized = quantized.of_tensors(stored.tensors)
    weights, renaming = _under_usual_names(stored, config, dimensions.skipped, folder)
    kept = set(map(id, weights.tensors.values()))  # by identity, since names were changed
    left = frozenset(usual_module(name) for name, tensor in stored.tensors.items() if id(tensor) not in kept)
    # An embedding of more rows than the output layer cannot be that too, whatever is stated.
    tied = is_tied(fields, weights.tensors) and not dimensions.beyond_vocabulary
    model = _Model(config, fields, text, dimensions, weights, renaming, quantized, tied, left)
    extra_layers = text.count("num_nextn_predict_layers", least=0) or 0
    if model.readable:
        with _architecture_first(config, where):
            check_shapes(model.shapes, dimensions, tied=tied, extra_layers=extra_layers, where=where)
    return model


def _under_usual_names(
    weights: WeightFiles, config: Mapping[str, Any], skipped: Collection[int], folder: Path
) -> tuple[WeightFiles, str]:
    """The weights by the names that transformers gives them, and what was changed, "" where nothing was.

    skipped: layers that are no part of the text model.
    """
    family = find_family(config)
    wrapped = family is not None and is_wrapped(config)
    sense_adapters = family.traits.sense_adapters if family is not None and wrapped else ()
    own = of_adapters(weights.tensors, sense_adapters)
    others = {name for names in own.values() for name in names}
    lone = unmerged((name for name in weights.tensors if name not in others), adapted=bool(own))
    if lone is not None:
        raise CheckpointInvalid(
            f"the weights hold an adapter beside the base: {lone}",
            where=str(folder),
            hint="Save the adapter by itself and give it as --adapter, or merge it first: model.merge_and_unload().",
        )
    if family is None:
        return weights, ""
    left_out = ""
    if wrapped or skipped or guesses_ahead(weights.tensors):
        weights, left_out = _text_alone(weights, {**others_than_text(weights.tensors, skipped), **own})
    names, renaming = usual_names(weights.tensors, adapted=bool(own))
    tensors: dict[str, Tensor] = {}
    for name, tensor in weights.tensors.items():
        if names[name] in tensors:
            twin = tensors[names[name]].name
            raise CheckpointInvalid(
                f"two tensors are the same weight: {twin} and {name}", where=str(folder), hint="Leave one of them out."
            )
        tensors[names[name]] = tensor
    return replace(weights, tensors=tensors), "; ".join(filter(None, (renaming, left_out)))


def _text_alone(weights: WeightFiles, others: Mapping[str, Collection[str]]) -> tuple[WeightFiles, str]:
    """The weights of the text model, and which `others` are left out, with their part of all, in words."""
    size = sum(tensor.nbytes for tensor in weights.tensors.values())
    told = []
    for module, names in others.items():
        part = sum(weights.tensors[name].nbytes for name in names) / size
        told.append(f"{module} ({len(names)} tensors, {part:.0%} of the weights)")
    left = {name for names in others.values() for name in names}
    kept = {name: tensor for name, tensor in weights.tensors.items() if name not in left}
    return replace(weights, tensors=kept), f"the text model alone is built, without {', '.join(told)}" if told else ""


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


def require_readable_weights(checkpoint: Checkpoint) -> None:
    """Raises CheckpointInvalid for weights in a quantized form that is not read."""
    found, plain = checkpoint.quantized, plain_copy(checkpoint.source)
    if found is not None and found.packing is None:
        raise CheckpointInvalid(
            f"the checkpoint is quantized in a form that cannot be built from: {found.form}, as {found.shown_by}",
            where=str(checkpoint.folder / "config.json"),
            hint=found.hint if plain == checkpoint.source else f"{found.hint} Presumably that is {plain}.",
        )


def scan_weights(checkpoint: Checkpoint, progress: Progress = silent) -> None:
    """Reads every tensor of the base and the adapter once, but for pickles and packed matrices.

    Raises WeightsDamaged that names the tensor for NaN, infinity or a size beyond 1e5, as a flipped bit leaves.
    """
    tensors = [tensor for tensor in checkpoint.tensors.values() if not isinstance(tensor, Packed)]
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
