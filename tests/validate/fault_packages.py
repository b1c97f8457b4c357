"""Packages with a fault, each an altered copy of a good one, and the checks of the gate that must catch it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.package import DAMAGED, genai_config, inference_model, manifest, template, tokenizer
from edgeship.package.manifest import MANIFEST_NAME
from edgeship.package.prompt_parts import derive_parts
from edgeship.system.json_file import write_object
from edgeship.system.storage import digest_file
from edgeship.validate.verdict import CheckName
from tests.chat_templates import LLAMA3

GENERATION = "generation_config.json"
_ZEPHYR = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@dataclass(frozen=True)
class Fault:
    """One way in which a package may be wrong.

    caught_by: the check that it belongs to, which must fail; other checks may, too.
    alter: puts it into a package's folder. sealed: the manifest is made anew afterwards, as of a build that had the
    fault when its package was written; otherwise the package was altered after that.
    """

    name: str
    caught_by: CheckName
    alter: Callable[[Path], None]
    sealed: bool = True

    def package(self, good: Path, folder: Path, *, sealed: bool | None = None) -> Path:
        """A copy of the package `good` in `folder`, which must not exist, with the fault; returns `folder`.

        sealed: another answer than the fault's own.
        """
        shutil.copytree(good, folder)
        self.alter(folder)
        if self.sealed if sealed is None else sealed:
            seal(folder)
        return folder


def seal(folder: Path) -> None:
    """Makes the manifest anew for the files that are in a package's folder."""
    files = {
        path.relative_to(folder).as_posix(): digest_file(path, folder.parent)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }
    manifest.write(folder, manifest.read(folder).manifest.model_copy(update={"files": files}))


@contextmanager
def _edited(path: Path) -> Iterator[dict[str, Any]]:
    document = json.loads(path.read_bytes())
    yield document
    write_object(path, document)


@contextmanager
def _graph(folder: Path) -> Iterator[Any]:
    """The graph without its weights, written back afterwards."""
    import onnx

    model = onnx.load(folder / "model.onnx", load_external_data=False)
    yield model
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def _special(folder: Path) -> list[dict[str, Any]]:
    """The tokenizer's added tokens."""
    found: list[dict[str, Any]] = json.loads((folder / tokenizer.FILE_NAME).read_bytes())["added_tokens"]
    return found


def _end_id(folder: Path) -> int | None:
    return tokenizer.read(folder, DAMAGED).role_id("eos_token")


# --- bytes and files -------------------------------------------------------------------------------------------------


def _flip(path: Path, place: int, bit: int = 6) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def flip_weight(folder: Path) -> None:
    """One bit in the middle of the weights is another one."""
    path = folder / "model.onnx.data"
    _flip(path, path.stat().st_size // 2)


def flip_small(folder: Path) -> None:
    """The model card has one letter in the other case: nothing else would ever notice."""
    path = folder / "README.md"
    place = next(number for number, byte in enumerate(path.read_bytes()) if chr(byte).isalpha())
    _flip(path, place, bit=5)


def add_file(folder: Path) -> None:
    """A file more than the manifest lists, which onnxruntime-genai would read."""
    (folder / "added_tokens.json").write_text('{"<|im_end|>": 7}\n', encoding="utf-8")


# --- the chat template, and what begins a text -----------------------------------------------------------------------


def with_template(folder: Path, words: str) -> None:
    """Every file that states a template states this one, as if the package had been built with it."""
    (folder / template.FILE_NAME).write_text(words, encoding="utf-8", newline="")
    with _edited(folder / tokenizer.CONFIG_NAME) as config:
        config["chat_template"] = words
    parts = derive_parts(words, tokenizer.read(folder, DAMAGED).special_tokens)
    name = inference_model.read_name(folder) or "model"
    write_object(folder / inference_model.FILE_NAME, inference_model.document(name, parts))


def double_bos(folder: Path) -> None:
    """The tokenizer has a token that begins texts, and the template writes it twice."""
    begins = _special(folder)[0]
    with _edited(folder / tokenizer.CONFIG_NAME) as config:
        config["bos_token"] = begins["content"]
        words = str(config["chat_template"])
    with _edited(folder / genai_config.FILE_NAME) as document:
        document["model"]["bos_token_id"] = begins["id"]
    with_template(folder, "{{ bos_token }}{{ bos_token }}" + words)


def foreign_template(folder: Path) -> None:
    """The template of a family whose control tokens this tokenizer does not have: Llama 3's."""
    with_template(folder, LLAMA3.replace("bos_token", "'<|begin_of_text|>'"))


def other_template(folder: Path) -> None:
    """Zephyr's template, which has no control tokens but the one that ends a text: only the answers get worse."""
    with_template(folder, _ZEPHYR)


def half_replaced_template(folder: Path) -> None:
    """Another template in the one file that transformers and Edgeship read; onnxruntime-genai reads the old one."""
    words = (folder / template.FILE_NAME).read_text(encoding="utf-8")
    (folder / template.FILE_NAME).write_text(words.replace("assistant\\n", "assistant"), encoding="utf-8", newline="")


# --- what ends an answer, and how it is sampled ----------------------------------------------------------------------


def lose_eos(folder: Path) -> None:
    """The token that ends an answer is no longer among those that stop the model: it goes on until it is cut off."""
    ends, kept = _end_id(folder), _special(folder)[0]
    assert kept["id"] != ends
    with _edited(folder / genai_config.FILE_NAME) as document:
        document["model"]["eos_token_id"] = kept["id"]
    with _edited(folder / GENERATION) as document:
        document["eos_token_id"] = kept["id"]
    for name in (tokenizer.CONFIG_NAME, tokenizer.SPECIAL_TOKENS_NAME):
        with _edited(folder / name) as document:
            document["eos_token"] = kept["content"]


def lose_eos_in_one(folder: Path) -> None:
    """The same in genai_config.json alone, which is what the engines read."""
    with _edited(folder / genai_config.FILE_NAME) as document:
        document["model"]["eos_token_id"] = _special(folder)[0]["id"]


def ruin_sampling(folder: Path) -> None:
    """A model that was trained to answer greedily samples from its whole vocabulary, as hot as some chat models."""
    changes: dict[str, Any] = {"do_sample": True, "temperature": 1.8, "top_p": 1.0, "top_k": 0}
    with _edited(folder / genai_config.FILE_NAME) as document:
        document["search"] |= changes
    with _edited(folder / GENERATION) as document:
        document |= changes


# --- the tokenizer ---------------------------------------------------------------------------------------------------


def lose_merge(folder: Path) -> None:
    """An early merge of the tokenizer is gone: common words fall into pieces that the model never saw together."""
    _remove_merge(folder, 10)


def lose_last_merge(folder: Path) -> None:
    """The last merge is gone: one rare token can no longer be made."""
    _remove_merge(folder, -1)


def _remove_merge(folder: Path, place: int) -> None:
    with _edited(folder / tokenizer.FILE_NAME) as document:
        del document["model"]["merges"][place]


# --- code, and ways out of the folder --------------------------------------------------------------------------------


def name_library(folder: Path) -> None:
    """genai_config.json asks for a library of custom operators, which would be loaded and run."""
    (folder / "libops.so").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))
    with _edited(folder / genai_config.FILE_NAME) as document:
        document["model"]["decoder"]["session_options"]["custom_ops_library"] = "libops.so"


def add_executable(folder: Path) -> None:
    """A shared library lies in the package, under a name that says nothing."""
    (folder / "extra.bin").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))


def add_code(folder: Path) -> None:
    """Python code lies in the package, as for `trust_remote_code`."""
    (folder / "modeling_triage.py").write_text("import os\n", encoding="utf-8")


def leave_by_data(folder: Path) -> None:
    """The graph takes its weights from a file beside the package's folder."""
    shutil.copyfile(folder / "model.onnx.data", folder.parent / "elsewhere.data")
    with _graph(folder) as model:
        for value in model.graph.initializer:
            for entry in value.external_data:
                if entry.key == "location":
                    entry.value = "../elsewhere.data"


def leave_by_link(folder: Path) -> None:
    """The weights are a link to a file beside the package's folder."""
    outside = folder.parent / "elsewhere.data"
    (folder / "model.onnx.data").rename(outside)
    (folder / "model.onnx.data").symlink_to(outside)


def foreign_operator(folder: Path) -> None:
    """The graph needs an operator that only somebody's own library has."""
    from onnx import helper

    with _graph(folder) as model:
        model.opset_import.append(helper.make_opsetid("com.example", 1))
        node = model.graph.node[-1]
        made = node.output[0]
        node.output[0] = f"{made}.before"
        model.graph.node.append(helper.make_node("Polish", [f"{made}.before"], [made], domain="com.example"))


# --- the weights -----------------------------------------------------------------------------------------------------


def two_bits(folder: Path) -> None:
    """Of a package in 4 or 8 bits, every weight keeps its upper two: four levels a block."""
    from onnx import load

    model = load(folder / "model.onnx", load_external_data=False)
    bits = {}
    for node in model.graph.node:
        packed = {"MatMulNBits": 1, "GatherBlockQuantized": 0}.get(node.op_type)
        if packed is not None:
            [bits[node.input[packed]]] = [each.i for each in node.attribute if each.name == "bits"]
    content = bytearray((folder / "model.onnx.data").read_bytes())
    kept = {4: bytes(byte & 0xCC | 0x22 for byte in range(256)), 8: bytes(byte & 0xC0 | 0x20 for byte in range(256))}
    for value in model.graph.initializer:
        if value.name in bits:
            place = {entry.key: entry.value for entry in value.external_data}
            begin = int(place["offset"])
            end = begin + int(place["length"])
            content[begin:end] = content[begin:end].translate(kept[bits[value.name]])
    (folder / "model.onnx.data").write_bytes(content)


FAULTS: tuple[Fault, ...] = (
    Fault("flipped-weight", "integrity", flip_weight, sealed=False),
    Fault("flipped-small-file", "integrity", flip_small, sealed=False),
    Fault("added-file", "integrity", add_file, sealed=False),
    Fault("bos-doubled", "integrity", double_bos),
    Fault("template-of-another-family", "integrity", foreign_template),
    Fault("template-half-replaced", "integrity", half_replaced_template),
    Fault("template-of-another-model", "domain", other_template),
    Fault("eos-missing", "integrity", lose_eos),
    Fault("eos-missing-in-one-file", "integrity", lose_eos_in_one),
    Fault("sampling-ruins", "domain", ruin_sampling),
    Fault("lost-merge", "integrity", lose_merge),
    Fault("lost-last-merge", "integrity", lose_last_merge),
    Fault("custom-operators", "integrity", name_library),
    Fault("executable", "integrity", add_executable),
    Fault("python-code", "integrity", add_code),
    Fault("data-outside", "integrity", leave_by_data),
    Fault("link-outside", "integrity", leave_by_link),
    Fault("foreign-operator", "integrity", foreign_operator),
    Fault("two-bits", "domain", two_bits),
)


def named(name: str) -> Fault:
    """The fault of that name."""
    [found] = [fault for fault in FAULTS if fault.name == name]
    return found
