"""What bench_quality.py compares, each held against the same references: folders, recipes, and their peers' files.

Everything that took time is kept where it was made, in work/quality/MODEL, and not done again: references by the
windows that they are of, a package by its recipe and by the code that builds it, and beside each its figures by
reference. A run that was killed goes on with the row that it had in hand.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import measured
import peers
import real_checkpoints
import reference_logits
import scored_onnx
from peers import WORK
from reference_logits import CONTEXT, Reference

import edgeship
from edgeship.builder import calibration_texts
from edgeship.checkpoint import open_checkpoint
from edgeship.measure.agreement.fidelity import summarise
from edgeship.system.storage import leftovers, new_folder, scratch_folder, write_file

Row = dict[str, Any]

GENAI = {"genai int4": 32}
"""onnxruntime-genai's INT4, by the size of its blocks."""
LLAMA_CPP = ("Q4_0", "Q4_K_M", "Q4_K_M imatrix", "Q8_0")

_PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For a model that was never taught to chat: its conversations are plain text."""
_CALIBRATION = "TEXTS"


@dataclass(frozen=True)
class Texts:
    """scored: a folder with KIND.txt. calibration: what recipes and importance matrices are calibrated with."""

    scored: Path
    calibration: Path

    def of_kind(self, kind: str) -> Path:
        return self.scored / f"{kind}.txt"

    def named(self, word: str) -> Path | None:
        """The file that a word of a recipe stands for: TEXTS, or a kind of text that is scored, in capitals."""
        if word == _CALIBRATION:
            return self.calibration
        return self.of_kind(word.lower()) if word.isupper() and self.of_kind(word.lower()).is_file() else None


@dataclass(frozen=True)
class Ruler:
    """What a model's builds are held against. references: the checkpoint's predictions, by kind of text."""

    source: real_checkpoints.Model
    texts: Texts
    references: Mapping[str, Path]

    @property
    def folder(self) -> Path:
        return _folder(self.source)

    @property
    def checkpoint(self) -> Path:
        return _checkpoint(self.source)

    @cached_property
    def parameters(self) -> int:
        """Weights in model.safetensors."""
        with (self.checkpoint / "model.safetensors").open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")

    @cached_property
    def template(self) -> Path | None:
        """A file, where the checkpoint has no chat template."""
        if "chat_template" in json.loads((self.checkpoint / "tokenizer_config.json").read_text("utf-8")):
            return None
        path = self.folder / "plain.jinja"
        write_file(path, _PLAIN_TEMPLATE)
        return path

    def row(self, place: Path, weight_bytes: int, score: Callable[[Path], Row]) -> Row:
        """Figures of each kind of text, which are kept in `place`, and their means.

        The kinds' standard errors are independent of each other.
        """
        kinds = {
            kind: _kept(place / f"{path.stem}.json", partial(score, path)) for kind, path in self.references.items()
        }
        each = list(kinds.values())
        means = {name: fmean(figures[name] for figures in each) for name in ("kld_nats", "top1", "log_ppl_ratio")}
        error = math.sqrt(sum(figures["kld_error_nats"] ** 2 for figures in each)) / len(each)
        bits = 8 * weight_bytes / self.parameters
        return {"bits_per_weight": bits, **means, "kld_error_nats": error, "kinds": kinds}


def ruler(source: real_checkpoints.Model, texts: Texts, kinds: Iterable[str], count: int) -> Ruler:
    """The model's references, computed where they are not there for these windows."""
    return Ruler(source, texts, {kind: _reference(source, texts.of_kind(kind), count) for kind in kinds})


def _folder(source: real_checkpoints.Model) -> Path:
    return WORK / "quality" / source.name


def _checkpoint(source: real_checkpoints.Model) -> Path:
    return real_checkpoints.make(WORK / "real", source)


def _reference(source: real_checkpoints.Model, text: Path, count: int) -> Path:
    checkpoint, folder = _checkpoint(source), _folder(source)
    folder.mkdir(parents=True, exist_ok=True)
    tokens = reference_logits.windows(checkpoint / "tokenizer.json", text.read_text("utf-8"), count)
    path = folder / f"{text.stem}-{count}-{hashlib.sha256(tokens.tobytes()).hexdigest()[:16]}.logits"
    if not path.exists():
        _remove(folder.glob(f"{text.stem}-{count}-*.logits"))
        print(f"{source.name}: {text.stem} in transformers, FP32", file=sys.stderr, flush=True)
        reference_logits.write(path, tokens, reference_logits.of_checkpoint(checkpoint, tokens))
    return path


# --- ONNX folders ----------------------------------------------------------------------------------------------------


def folder_row(held: Ruler, folder: Path, accuracy_level: int | None) -> Row:
    """The row of an onnxruntime-genai folder that somebody else has built, and may build again: nothing is kept."""
    with scratch_folder(held.folder) as place:
        return _onnx_row(held, place, folder, accuracy_level)


def recipe_row(held: Ruler, recipe: str) -> Row:
    """recipe: what follows `edgeship build --precision`. A text that it is calibrated with is not scored."""
    named = {word: path for word in recipe.split() if (path := held.texts.named(word))}
    seen = {kind: path for kind, path in held.references.items() if held.texts.of_kind(kind) not in named.values()}
    place = held.folder / "recipes" / f"{_slug(recipe)}-{_key(held, named.values())}"
    if not place.exists():
        _remove([*place.parent.glob(f"{_slug(recipe)}-{'?' * _KEY_LENGTH}"), *leftovers(place.parent)])
        with new_folder(place) as temporary, scratch_folder(held.folder) as home:
            words = [str(named.get(word, word)) for word in ("--precision", *recipe.split())]
            words += ["--chat-template", str(held.template)] if held.template else []
            command = peers.edgeship_build(held.checkpoint, temporary / "built", *words, home=home)
            took = measured.measure(command.words, command.environment)
            cost = {"build_s": took.wall_s, "build_peak_bytes": took.peak_bytes}
            (temporary / "cost.json").write_text(json.dumps(cost), "utf-8")
    cost = json.loads((place / "cost.json").read_text("utf-8"))
    return _onnx_row(replace(held, references=seen), place, place / "built", None) | dict(cost)


def genai_row(held: Ruler, block_size: int) -> Row:
    place = held.folder / f"onnxruntime-genai-{peers.versions()['onnxruntime-genai']}" / f"int4-{block_size}"
    if not place.exists():
        with new_folder(place) as temporary:
            command = peers.genai_best(held.checkpoint, temporary / "built", block_size)
            measured.measure(command.words, command.environment)
    return _onnx_row(held, place, place / "built", None)


def _onnx_row(held: Ruler, place: Path, folder: Path, accuracy_level: int | None) -> Row:
    return held.row(place, scored_onnx.weight_bytes(folder), partial(_score_onnx, held, folder, accuracy_level))


def _score_onnx(held: Ruler, folder: Path, accuracy_level: int | None, path: Path) -> Row:
    reference = Reference(path)
    with scored_onnx.opened(folder, held.folder, accuracy_level) as opened:
        logits = map(opened.logits, reference.tokens)
        found = summarise(reference.score(at, each) for at, each in enumerate(logits))
    return {
        "kld_nats": found.mean_kld_nats,
        "kld_error_nats": found.mean_kld_error_nats,
        "top1": found.top1_agreement,
        "log_ppl_ratio": math.log(found.perplexity_ratio),
    }


# --- llama.cpp -------------------------------------------------------------------------------------------------------


def llama_cpp_row(held: Ruler, kind: str) -> Row:
    """kind: a type of llama.cpp's, and "imatrix" behind it where an importance matrix guides it."""
    tools, name, guided = peers.llama_cpp(), *kind.partition(" ")[::2]
    files = held.folder / peers.LLAMA_CPP_SOURCE.replace("==", "-")
    files.mkdir(exist_ok=True)
    original = files / "f32.gguf"
    if not original.exists():
        real_checkpoints.write_gguf(original, WORK / "real", held.source)
    place = files / (f"{_slug(kind)}-{_digest([held.texts.calibration])}" if guided else name)
    gguf = place / "model.gguf"
    if not gguf.exists():
        with new_folder(place) as temporary:
            options = ["--imatrix", str(_importance(held, original, temporary))] if guided else []
            command = tools.quantize(original, temporary / gguf.name, name, *options)
            measured.measure(command.words, command.environment)
    return held.row(place, tools.tensor_bytes(gguf), partial(_score_gguf, gguf))


def _importance(held: Ruler, original: Path, folder: Path) -> Path:
    text, matrix = folder / "calibration.txt", folder / "imatrix.gguf"
    text.write_text(_spelled(held), "utf-8")
    command = peers.llama_cpp().importance_matrix(original, text, matrix)
    measured.measure(command.words, command.environment)
    return matrix


def _spelled(held: Ruler) -> str:
    """What we calibrate with, as llama.cpp takes it: one text, with the template's tokens in their spelling."""
    checkpoint = open_checkpoint(str(held.checkpoint), chat_template=held.template)
    library = checkpoint.tokenizer.load().library
    sequences = calibration_texts.read_sequences(held.texts.calibration, checkpoint)
    return "".join(library.decode(tokens, skip_special_tokens=False) for tokens in sequences)


def _score_gguf(gguf: Path, reference: Path) -> Row:
    printed = _divergence(peers.llama_cpp().divergence(gguf, reference, CONTEXT))
    mean, error = _printed(printed, "Mean    KLD:")
    return {
        "kld_nats": mean,
        "kld_error_nats": error,
        "top1": _printed(printed, "Same top p:")[0] / 100,
        "log_ppl_ratio": _printed(printed, "Mean ln(PPL(Q)/PPL(base))     :")[0],
    }


def _divergence(command: peers.Command) -> str:
    """What the tool printed. On a busy machine it may end before its log has written the last lines: again, then."""
    for _ in range(10):
        printed = measured.measure(command.words, command.environment).output
        if "Same top p:" in printed:
            return printed
    raise ValueError(f"{command.words[0]} printed no result")


def _printed(output: str, label: str) -> tuple[float, float]:
    """Value and error of a line like "Mean    KLD:   0.010000 ±   0.000100"."""
    line = next(line for line in output.splitlines() if line.startswith(label))
    value, error = line.removeprefix(label).replace("%", "").split("±")
    return float(value), float(error)


# --- what is kept ----------------------------------------------------------------------------------------------------

_KEY_LENGTH = 16


def _kept(path: Path, make: Callable[[], Row]) -> Row:
    if not path.exists():
        write_file(path, json.dumps(make()))
    return dict(json.loads(path.read_text("utf-8")))


def _key(held: Ruler, read: Iterable[Path]) -> str:
    """Of all that makes a package what it is, but for the recipe's words: the code, and the files that it reads."""
    package = Path(edgeship.__file__).parent
    code = sorted(path for path in package.rglob("*") if path.suffix in (".py", ".json", ".jsonl"))
    return _digest([*code, *read, *([held.template] if held.template else [])], peers.versions()["onnxruntime"])


def _digest(files: Sequence[Path], *words: str) -> str:
    parts = [*(hashlib.sha256(path.read_bytes()).hexdigest() for path in files), *words]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:_KEY_LENGTH]


def _slug(words: str) -> str:
    return re.sub(r"[^\w.]+", "-", words)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
