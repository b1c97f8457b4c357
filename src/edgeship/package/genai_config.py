"""genai_config.json: how onnxruntime-genai and Foundry Local are to run a package. Its one reader and one writer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeship.system import json_file
from edgeship.system.json_file import Complaint

FILE_NAME = "genai_config.json"
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


@dataclass(frozen=True)
class GenaiConfig:
    """What the file says of a model.

    context_tokens: what the model was made for. end_ids: tokens that end an answer.
    provider: "cpu", or the first execution provider that it asks for. threads: None leaves them to onnxruntime.
    model_type: the family, as onnxruntime-genai calls it. model_file: the graph, beside the file.
    inputs, outputs: names in the graph that are not the usual ones.
    document: all that the file holds.
    """

    path: Path
    model_type: str
    context_tokens: int
    vocab_size: int
    end_ids: frozenset[int]
    search: Search
    provider: str
    threads: int | None
    model_file: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    document: Mapping[str, Any] = field(repr=False)
    complaint: Complaint = field(repr=False)

    @property
    def folder(self) -> Path:
        """The package folder."""
        return self.path.parent

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """Layers, heads of keys and values, and their size. Raises the complaint's error where they are not stated."""
        decoder = _Fields(self.path, "", self.document, self.complaint).part("model").part("decoder")
        layers, heads, size = (
            decoder.required(name) for name in ("num_hidden_layers", "num_key_value_heads", "head_size")
        )
        return layers, heads, size

    @property
    def cache_names(self) -> list[tuple[str, str]]:
        """Each past input with the present output that becomes it: key and value of layer 0, and so on.

        Raises the complaint's error.
        """
        return [
            (
                self._numbered(self.inputs, "inputs", f"past_{kind}_names", f"past_key_values.%d.{kind}", layer),
                self._numbered(self.outputs, "outputs", f"present_{kind}_names", f"present.%d.{kind}", layer),
            )
            for layer in range(self.cache_shape[0])
            for kind in ("key", "value")
        ]

    def _numbered(self, names: Mapping[str, str], part: str, key: str, usual: str, layer: int) -> str:
        pattern = names.get(key, usual)
        if pattern.count("%") != 1 or "%d" not in pattern:
            raise self.complaint.about(
                self.path, f"has model.decoder.{part}.{key} {pattern!r}, which has no %d for the layer's number"
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
    return parse(json_file.read_object(path, complaint), path, complaint)


def parse(document: Mapping[str, Any], path: Path, complaint: Complaint) -> GenaiConfig:
    """What the file at `path` says, which holds `document`. Raises as `read` does."""
    whole = _Fields(path, "", document, complaint)
    model = whole.part("model")
    decoder = model.part("decoder")
    session = decoder.part("session_options")
    return GenaiConfig(
        path=path,
        model_type=model.text("type") or "model",
        context_tokens=model.required("context_length"),
        vocab_size=model.required("vocab_size"),
        end_ids=model.numbers("eos_token_id"),
        search=_search(whole.part("search")),
        provider=_provider(session),
        threads=session.whole_number(_THREADS[0]) or None,
        model_file=decoder.text("filename") or "model.onnx",
        inputs=decoder.part("inputs").texts("attention_mask", "position_ids", "past_key_names", "past_value_names"),
        outputs=decoder.part("outputs").texts("present_key_names", "present_value_names"),
        document=document,
        complaint=complaint,
    )


def _search(search: _Fields) -> Search:
    return Search(
        do_sample=search.flag("do_sample"),
        temperature=search.number("temperature"),
        top_p=search.number("top_p"),
        top_k=search.whole_number("top_k"),
        repetition_penalty=search.number("repetition_penalty"),
        max_length=search.whole_number("max_length"),
    )


def _provider(session: _Fields) -> str:
    for place, options in enumerate(session.items("provider_options")):
        if not isinstance(options, dict):
            raise session.wrong(f"provider_options[{place}]", options, "an object")
        for name in options:
            return str(name).lower().removesuffix("executionprovider")
    return "cpu"


@dataclass(frozen=True)
class _Fields:
    """An object in the file, whose fields are read with their types; null is as good as nothing."""

    path: Path
    name: str
    values: Mapping[str, Any]
    complaint: Complaint

    def part(self, key: str) -> _Fields:
        value = self._of_type(key, dict, "an object")
        return _Fields(self.path, f"{self.name}{key}.", value or {}, self.complaint)

    def required(self, key: str) -> int:
        value = self.whole_number(key)
        if value is None or value < 1:
            raise self.complaint.about(self.path, f"has no usable {self.name}{key}: {_shown(value)}")
        return value

    def whole_number(self, key: str) -> int | None:
        found: int | None = self._of_type(key, int, "a whole number")
        return found

    def number(self, key: str) -> float | None:
        found: float | None = self._of_type(key, (int, float), "a number")
        if found is not None and not abs(found) <= sys.float_info.max:
            raise self.wrong(key, found, "a number")
        return found

    def numbers(self, key: str) -> frozenset[int]:
        """One whole number or several."""
        value = self.values.get(key)
        found = [] if value is None else value if isinstance(value, list) else [value]
        for number in found:
            if type(number) is not int:
                raise self.wrong(key, value, "a token id, or a list of them")
        return frozenset(found)

    def flag(self, key: str) -> bool:
        return bool(self._of_type(key, bool, "true or false"))

    def text(self, key: str) -> str | None:
        found: str | None = self._of_type(key, str, "a text")
        return found

    def texts(self, *keys: str) -> dict[str, str]:
        """Of these fields, those that are stated."""
        return {key: text for key in keys if (text := self.text(key)) is not None}

    def items(self, key: str) -> list[Any]:
        return self._of_type(key, list, "a list") or []

    def wrong(self, key: str, value: object, wanted: str) -> Exception:
        return self.complaint.about(self.path, f"has {self.name}{key} {_shown(value)}, which is not {wanted}")

    def _of_type(self, key: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        value = self.values.get(key)
        # To Python true is a number.
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise self.wrong(key, value, wanted)
        return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


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
) -> dict[str, Any]:
    """The file's content for a decoder of this shape in model.onnx, its inputs and outputs named as usual."""
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
