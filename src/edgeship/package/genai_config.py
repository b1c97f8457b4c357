"""genai_config.json: how onnxruntime-genai and Foundry Local are to run a package. Its one reader and one writer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship.errors import PackageRefused
from edgeship.package import genai_allowed
from edgeship.package.genai_allowed import Setting
from edgeship.system import foreign, json_file
from edgeship.system.fields import Fields, shown
from edgeship.system.json_file import Complaint

FILE_NAME = "genai_config.json"
MODEL_FILE = "model.onnx"
"""What the graph is called where the file does not say."""
MOST_LAYERS = 10_000
KEYS_VALUES = ("key", "value")
"""What an attention keeps of every token."""
STATES = ("conv", "recurrent")
"""What other layers keep: a state of a fixed size, however many tokens it was made of."""
_NEUTRAL_SEARCH: Mapping[str, object] = {
    "min_length": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "batch_size": 1,
    "no_repeat_ngram_size": 0,
    "diversity_penalty": 0,
    "length_penalty": 1,
    "random_seed": -1,
}
# They change no answer of one beam: what shares memory, what is read at once, and when beams end.
_NO_MATTER = frozenset({"past_present_share_buffer", "chunk_size", "early_stopping"})
_THREADS = ("intra_op_num_threads", "inter_op_num_threads")


@dataclass(frozen=True)
class Search:
    """How answers are sampled where nobody says otherwise; None where the file leaves that open."""

    do_sample: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_length: int | None = None

    @property
    def in_words(self) -> str:
        """How an answer is made where nobody says otherwise."""
        if not self.do_sample or self.temperature == 0 or self.top_k == 1:
            return "greedily"
        stated = {name: getattr(self, name) for name in ("temperature", "top_p", "top_k")}
        return f"by samples ({', '.join(f'{name} {value}' for name, value in stated.items() if value is not None)})"


@dataclass(frozen=True)
class GenaiConfig:
    """What the file says of a model.

    context_tokens: what the model was made for. begin_ids, end_ids: tokens that begin a text and end an answer.
    provider: "cpu", or the first execution provider that it asks for. threads: None leaves them to onnxruntime.
    model_type: the family, as onnxruntime-genai calls it. model_file: the graph, beside the file.
    files: every file that it names, besides those of the tokenizer.
    inputs, outputs: names in the graph that are not the usual ones.
    document: all that the file holds.
    """

    path: Path
    model_type: str
    context_tokens: int
    vocab_size: int
    begin_ids: frozenset[int]
    end_ids: frozenset[int]
    search: Search
    provider: str
    threads: int | None
    model_file: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    files: frozenset[str]
    document: Mapping[str, Any] = field(repr=False)
    complaint: Complaint = field(repr=False)

    @property
    def folder(self) -> Path:
        """The package folder."""
        return self.path.parent

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, heads of keys and values, and their size. Raises the complaint's error where they are not stated."""
        decoder = json_file.fields_of(self.document, self.path, self.complaint).part("model").part("decoder")
        layers = decoder.required_count("num_hidden_layers", most=MOST_LAYERS)
        return layers, decoder.required_count("num_key_value_heads"), decoder.required_count("head_size")

    @property
    def not_followed(self) -> Mapping[str, object]:
        """Settings of its search that change answers and that only onnxruntime-genai obeys, with what changes nothing.

        None for one that is not known, which is to be taken out.
        """
        stated = json_file.fields_of(self.document, self.path, self.complaint).part("search").values
        followed = {each.name for each in dataclasses.fields(Search)} | _NO_MATTER
        others = {key: value for key, value in stated.items() if key not in followed and value is not None}
        return {
            key: _NEUTRAL_SEARCH.get(key)
            for key, value in others.items()
            if key not in _NEUTRAL_SEARCH or value != _NEUTRAL_SEARCH[key]
        }

    @property
    def attention_share(self) -> float | None:
        """What attending to one token before it costs a token, as a part of what its weights cost; None if not stated.

        By multiplications, with the usual 12 matrices of hidden size squared in a layer.
        """
        decoder = json_file.fields_of(self.document, self.path, self.complaint).part("model").part("decoder")
        hidden, heads, size = (decoder.count(name) for name in ("hidden_size", "num_attention_heads", "head_size"))
        return heads * size / (6 * hidden**2) if hidden and heads and size else None

    @property
    def cache_names(self) -> list[tuple[str, str]]:
        """Each past input with the present output that becomes it: key and value of layer 0, and so on.

        Raises the complaint's error.
        """
        return [self.kept_names(kind, layer) for layer in range(self.cache_shape[0]) for kind in KEYS_VALUES]

    @property
    def layers_differ(self) -> bool:
        """Whether layers may keep anything else than keys and values of one shape; the graph's inputs say what.

        Raises the complaint's error.
        """
        decoder = json_file.fields_of(self.document, self.path, self.complaint).part("model").part("decoder")
        return "layer_types" in decoder.values or any(f"past_{kind}_names" in self.inputs for kind in STATES)

    def kept_names(self, kind: str, layer: int) -> tuple[str, str]:
        """The past input and the present output of what a layer keeps, one of KEYS_VALUES or STATES.

        Raises the complaint's error.
        """
        usual = f"past_key_values.%d.{kind}" if kind in KEYS_VALUES else f"past.%d.{kind}"
        return (
            self._numbered(self.inputs, "inputs", f"past_{kind}_names", usual, layer),
            self._numbered(self.outputs, "outputs", f"present_{kind}_names", f"present.%d.{kind}", layer),
        )

    def _numbered(self, names: Mapping[str, str], part: str, key: str, usual: str, layer: int) -> str:
        pattern = names.get(key, usual)
        if pattern.count("%") != 1 or "%d" not in pattern:
            raise self.complaint.about(
                self.path, f"has model.decoder.{part}.{key} {shown(pattern)}, which has no %d for the layer's number"
            )
        return pattern.replace("%d", str(layer))


# --- reading ---------------------------------------------------------------------------------------------------------


def read(folder: Path, complaint: Complaint) -> GenaiConfig:
    """The configuration of a package folder. Raises the complaint's error, which names the field and its value."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise complaint.error(
            f"this is no package: {FILE_NAME} is missing",
            where=str(folder),
            hint="See what is there with `edgeship cache ls`.",
        )
    config = parse(json_file.read_object(path, complaint), path, complaint)
    _require_own_files(config)
    return config


def parse(document: Mapping[str, Any], path: Path, complaint: Complaint) -> GenaiConfig:
    """What the file at `path` says, which holds `document`. Raises as `read` does."""
    settings = list(genai_allowed.settings(document))
    whole = json_file.fields_of(document, path, complaint)
    model = whole.part("model")
    decoder = model.part("decoder")
    session = decoder.part("session_options")
    config = GenaiConfig(
        path=path,
        model_type=model.text("type") or "model",
        context_tokens=model.required_count("context_length"),
        vocab_size=model.required_count("vocab_size"),
        begin_ids=frozenset(model.ids("bos_token_id")),
        end_ids=frozenset(model.ids("eos_token_id")),
        search=read_search(whole.part("search")),
        provider=_provider(session),
        threads=session.count(_THREADS[0], least=0) or None,
        model_file=decoder.text("filename") or MODEL_FILE,
        inputs=_texts(decoder.part("inputs"), "attention_mask", "position_ids", *_names_of("past")),
        outputs=_texts(decoder.part("outputs"), *_names_of("present")),
        files=frozenset(setting.value for setting in settings if setting.file and setting.value),
        document=document,
        complaint=complaint,
    )
    _require_allowed(settings, path)
    return config


def _require_allowed(settings: Sequence[Setting], path: Path) -> None:
    refused = [setting for setting in settings if not setting.allowed]
    if refused:
        more = f"; and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise PackageRefused(
            f"{path.name} has {refused[0].name} {shown(refused[0].value)}, which no package may set{more}",
            where=str(path),
            hint="It may load code or reach files outside of the package. Take that out, or take another package.",
        )


def _require_own_files(config: GenaiConfig) -> None:
    """That what lies in the folder is of the folder: what a library opens there leads nowhere else."""
    inner = (config.folder / name for name in config.files if "/" in name)
    for path in (*sorted(config.folder.iterdir()), *inner):
        if path.name.startswith(".") or path.is_dir() or not path.exists():
            continue
        try:
            foreign.require_readable(path, folder=config.folder)
        except OSError as error:
            raise PackageRefused(
                f"{path.name} cannot be read: {error}",
                where=str(path),
                hint="A package is made of regular files in its own folder.",
            ) from error


def _names_of(when: str) -> list[str]:
    return [f"{when}_{kind}_names" for kind in (*KEYS_VALUES, *STATES)]


def _texts(names: Fields, *keys: str) -> dict[str, str]:
    """Of these fields, those that are stated."""
    return {key: text for key in keys if (text := names.text(key)) is not None}


def read_search(fields: Fields) -> Search:
    """How answers are sampled by this file's `search`, or by a generation_config.json, which has the same fields."""
    return Search(
        do_sample=bool(fields.flag("do_sample")),
        temperature=fields.number("temperature", least=0),
        top_p=fields.number("top_p", least=0, most=1),
        top_k=fields.count("top_k", least=0),
        repetition_penalty=fields.number("repetition_penalty", above=0),
        max_length=fields.count("max_length", least=0),
    )


def _provider(session: Fields) -> str:
    names = (name for options in session.parts("provider_options") for name in options.values)
    return next(names, "cpu").lower().removesuffix("executionprovider")


# --- writing ---------------------------------------------------------------------------------------------------------


def for_graph(
    model_type: str,
    *,
    context_tokens: int,
    vocab_size: int,
    hidden_size: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_size: int,
    layer_types: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The file's content for a decoder of this shape in model.onnx, its inputs and outputs named as usual.

    layer_types: where layers differ in what they keep, which the graph's inputs say. onnxruntime-genai takes a list for
    one of LFM2's layers, and needs none, but for an empty one, where all keep keys and values.
    """
    return {
        "model": {
            "context_length": context_tokens,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": "model.onnx",
                "head_size": head_size,
                "hidden_size": hidden_size,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
                "num_attention_heads": heads,
                "num_hidden_layers": layers,
                "num_key_value_heads": kv_heads,
                **({} if layer_types is None else {"layer_types": list(layer_types)}),
            },
            "type": model_type,
            "vocab_size": vocab_size,
        },
        "search": {
            "do_sample": False,
            "early_stopping": True,
            "max_length": context_tokens,
            "min_length": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": True,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
        },
    }


def with_states(
    document: Mapping[str, Any], layer_types: Sequence[str], states: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """The same for a graph some of whose layers keep states instead of keys and values.

    layer_types: of each layer. states: the shape of what such a layer keeps of a sequence, by its kind.
    """
    decoder = document["model"]["decoder"]
    added: dict[str, Any] = {
        "layer_types": list(layer_types),
        "inputs": decoder["inputs"] | {f"past_{kind}_names": f"past.%d.{kind}" for kind in states},
        "outputs": decoder["outputs"] | {f"present_{kind}_names": f"present.%d.{kind}" for kind in states},
    }
    if list(states) == ["conv"]:
        added["conv_cache_size"] = states["conv"][-1]  # onnxruntime-genai does not find it out from the graph
    return {**document, "model": {**document["model"], "decoder": {**decoder, **added}}}


def with_context(document: Mapping[str, Any], context_tokens: int) -> dict[str, Any]:
    """The file's content for a context of so many tokens, prompt and answer together."""
    return _with_model(document, {"context_length": context_tokens})


def with_threads(document: Mapping[str, Any], threads: int | None) -> dict[str, Any]:
    """The file's content for so many threads; None names none, as a package does: they are each machine's own."""
    decoder = dict(document["model"].get("decoder") or {})
    session = {key: value for key, value in (decoder.get("session_options") or {}).items() if key not in _THREADS}
    if threads is not None:
        session |= dict(zip(_THREADS, (threads, 1), strict=True))
    return _with_model(document, {"decoder": decoder | {"session_options": session}})


def with_tokens(
    document: Mapping[str, Any], *, bos_id: int | None, eos_ids: Sequence[int], pad_id: int | None
) -> dict[str, Any]:
    """The file's content with the tokens that begin, end and fill up; what ends stays as it is where none are given."""
    ends: dict[str, Any] = {}
    if eos_ids:
        ends["eos_token_id"] = list(eos_ids) if len(eos_ids) > 1 else eos_ids[0]
        ends["pad_token_id"] = pad_id if pad_id is not None else eos_ids[0]
    begins = {} if bos_id is None else {"bos_token_id": bos_id}
    model = {key: value for key, value in document["model"].items() if key != "bos_token_id"}
    return {**document, "model": model | ends | begins}


def with_search(document: Mapping[str, Any], search: Mapping[str, Any]) -> dict[str, Any]:
    """The file's content with these settings in the place of those of the same names."""
    return {**document, "search": {**(document.get("search") or {}), **search}}


def _with_model(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {**document, "model": {**document["model"], **changes}}
