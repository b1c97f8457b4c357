"""What quantization costs real models in quality: our recipes, llama.cpp's types and onnxruntime-genai's builder.

Everything reads the same windows of token ids, prose, code, dialogue and Chinese, and is compared with the same
predictions: the checkpoint's own in transformers, FP32 (reference_logits.py). ONNX folders are run by ONNX Runtime as
they are but for the positions that they tell (scored_onnx.py); llama.cpp's own tool scores its files. Both multiply in
int8. A recipe is what follows `edgeship build --precision`; TEXTS in it stands for the calibration texts.

make bench-quality
make bench-quality ARGS="--models smollm2 --recipes 'int4,int4 --block-size 64' --peers none"
make bench-quality ARGS="--models gemma3 --folders build/a build/b --recipes none --peers none"
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import measured
import peers
import real_checkpoints
import reference_logits
import scored_onnx
from measured import attempt
from peers import WORK
from reference_logits import CONTEXT, Reference

from edgeship.builder import calibration_texts
from edgeship.checkpoint import open_checkpoint
from edgeship.measure.fidelity import summarise
from edgeship.system.storage import scratch_folder

TEXTS = Path(__file__).parent / "texts"
KINDS = ("prose", "code", "dialogue", "chinese")
RECIPES = ("int4", "int4 --no-calibrate", "int4-balanced", "int4-balanced --asymmetric", "int4-best", "int8")
GENAI = {"genai int4": 32}
"""onnxruntime-genai's INT4, by the size of its blocks."""
LLAMA_CPP = ("Q4_0", "Q4_K_M", "Q4_K_M imatrix", "Q8_0")

TARGETS = (
    ("int4", "Q4_K_M", 0.8, None),
    ("int4-small", "Q4_0", 0.5, 4.6),
    ("int8", "Q8_0", 1.0, None),
)
"""A recipe, a type of llama.cpp's, the most of its KLD that is allowed; bits a weight, where not those of that type."""
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For a model that was never taught to chat: its conversations are plain text."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """name: its folder's. make: the checkpoint in a folder. source: the GGUF file that the checkpoint was made of."""

    name: str
    make: Callable[[Path], Path]
    source: real_checkpoints.Model

    @property
    def checkpoint(self) -> Path:
        return self.make(WORK / "real" / self.name)

    @property
    def gguf(self) -> Path:
        return real_checkpoints.gguf_file(self.checkpoint, self.source)

    @cached_property
    def parameters(self) -> int:
        """Weights in model.safetensors."""
        with (self.checkpoint / "model.safetensors").open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")

    def template(self, folder: Path) -> Path | None:
        """Written into `folder`, where the checkpoint has none."""
        if "chat_template" in json.loads((self.checkpoint / "tokenizer_config.json").read_text("utf-8")):
            return None
        path = folder / "plain.jinja"
        path.write_text(PLAIN_TEMPLATE, "utf-8")
        return path


MODELS = {
    "smollm2": Model("smollm2-135m-instruct", real_checkpoints.smollm2, real_checkpoints.SMOLLM2),
    "gemma3": Model("gemma3-270m", real_checkpoints.gemma3, real_checkpoints.GEMMA3),
}


@dataclass(frozen=True)
class Ruler:
    """What a model's builds are held against: files of windows and the checkpoint's predictions, by kind of text."""

    model: Model
    folder: Path
    references: Mapping[str, Path]

    def of_folder(self, folder: Path, accuracy_level: int | None = None) -> Row:
        """The row of an onnxruntime-genai folder; accuracy_level: see scored_onnx.opened."""
        kinds = {}
        with scored_onnx.opened(folder, self.folder, accuracy_level) as opened:
            for kind, path in self.references.items():
                reference = Reference(path)
                logits = map(opened.logits, reference.tokens)
                found = summarise(part for at, each in enumerate(logits) for part in reference.score(at, each))
                kinds[kind] = {
                    "kld_nats": found.mean_kld_nats,
                    "kld_error_nats": found.mean_kld_error_nats,
                    "top1": found.top1_agreement,
                    "log_ppl_ratio": math.log(found.perplexity_ratio),
                }
        return self._row(scored_onnx.weight_bytes(folder), kinds)

    def of_gguf(self, gguf: Path) -> Row:
        tools = peers.llama_cpp()
        kinds = {}
        for kind, path in self.references.items():
            printed = _divergence(tools.divergence(gguf, path, CONTEXT))
            mean, error = _printed(printed, "Mean    KLD:")
            kinds[kind] = {
                "kld_nats": mean,
                "kld_error_nats": error,
                "top1": _printed(printed, "Same top p:")[0] / 100,
                "log_ppl_ratio": _printed(printed, "Mean ln(PPL(Q)/PPL(base))     :")[0],
            }
        return self._row(tools.tensor_bytes(gguf), kinds)

    def _row(self, weight_bytes: int, kinds: dict[str, Row]) -> Row:
        """Figures of each kind of text, and their means; the kinds' errors are independent of each other."""
        each = list(kinds.values())
        means = {name: fmean(figures[name] for figures in each) for name in ("kld_nats", "top1", "log_ppl_ratio")}
        error = math.sqrt(sum(figures["kld_error_nats"] ** 2 for figures in each)) / len(each)
        return {"bits_per_weight": 8 * weight_bytes / self.model.parameters, **means, "kld_error_nats": error} | {
            "kinds": kinds
        }


def ruler(model: Model, kinds: Iterable[str], texts: Path, count: int) -> Ruler:
    """The model's references, computed where they are not there for these windows."""
    folder = WORK / "quality" / model.name
    folder.mkdir(parents=True, exist_ok=True)
    return Ruler(model, folder, {kind: _reference(model, folder, texts / f"{kind}.txt", count) for kind in kinds})


def _reference(model: Model, folder: Path, text: Path, count: int) -> Path:
    tokens = reference_logits.windows(model.checkpoint / "tokenizer.json", text.read_text("utf-8"), count)
    name = f"{text.stem}-{count}"
    path = folder / f"{name}-{hashlib.sha256(tokens.tobytes()).hexdigest()[:16]}.logits"
    if not path.exists():
        for outdated in folder.glob(f"{name}-*.logits"):
            outdated.unlink()
        tell(f"{model.name}: {text.stem} in transformers, FP32")
        reference_logits.write(path, tokens, reference_logits.of_checkpoint(model.checkpoint, tokens))
    return path


# --- what is compared ------------------------------------------------------------------------------------------------


def recipe_row(held: Ruler, calibration: Path, recipe: str) -> Row:
    """Built anew in an empty home, as the code may have changed."""
    words = [str(calibration) if word == "TEXTS" else word for word in ("--precision", *recipe.split())]
    template = held.model.template(held.folder)
    if template is not None:
        words += ["--chat-template", str(template)]
    with scratch_folder(held.folder) as out:
        command = peers.edgeship_build(held.model.checkpoint, out / "model", *words, home=out / "home")
        cost = measured.measure(command.words, command.environment)
        return held.of_folder(out / "model") | {"build_s": cost.wall_s, "build_peak_bytes": cost.peak_bytes}


def genai_row(held: Ruler, block_size: int) -> Row:
    out = held.folder / f"genai-int4-{block_size}"
    if not (out / "genai_config.json").exists():
        command = peers.genai_best(held.model.checkpoint, out, block_size)
        measured.measure(command.words, command.environment)
    return held.of_folder(out)


def llama_cpp_row(held: Ruler, calibration: Path, kind: str) -> Row:
    """kind: a type of llama.cpp's, and "imatrix" behind it where an importance matrix guides it."""
    tools, original = peers.llama_cpp(), held.folder / "f32.gguf"
    if not original.exists():
        # The checkpoint's weights are what this file says, and it has the tokenizer that the importance matrix needs.
        command = tools.quantize(held.model.gguf, original, "F32", "--allow-requantize")
        measured.measure(command.words, command.environment)
    name, _, guided = kind.partition(" ")
    gguf = held.folder / f"{kind.replace(' ', '-')}.gguf"
    if guided:
        matrix = held.folder / "imatrix.gguf"
        command = tools.importance_matrix(original, calibration_text(held, calibration), matrix)
        measured.measure(command.words, command.environment)
        command = tools.quantize(original, gguf, name, "--imatrix", str(matrix))
    else:
        command = tools.quantize(original, gguf, name)
    measured.measure(command.words, command.environment)
    return held.of_gguf(gguf)


def calibration_text(held: Ruler, calibration: Path) -> Path:
    """What we calibrate with, as llama.cpp takes it: one text, with the template's tokens in their spelling."""
    template = held.model.template(held.folder)
    checkpoint = open_checkpoint(str(held.model.checkpoint), chat_template=template)
    library = checkpoint.tokenizer.load().library
    sequences = calibration_texts.read_sequences(calibration, checkpoint)
    path = held.folder / "calibration.txt"
    path.write_text("".join(library.decode(tokens, skip_special_tokens=False) for tokens in sequences), "utf-8")
    return path


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


# --- the table -------------------------------------------------------------------------------------------------------


def table(model: Model, rows: Mapping[str, Row], kinds: Sequence[str]) -> str:
    """Markdown: KLD by kind of text, then the means over the kinds."""
    head = ["bits a weight", *(f"KLD {kind}" for kind in kinds), "mean KLD, nats", "same top-1", "PPL ratio"]
    lines = [f"| {model.name} | {' | '.join(head)} |", "|" + " --- |" * (1 + len(head))]
    for name, row in rows.items():
        cells = _cells(row, kinds) if "error" not in row else [row["error"].splitlines()[-1][-100:]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(row: Row, kinds: Sequence[str]) -> list[str]:
    return [
        f"{row['bits_per_weight']:.2f}",
        *(f"{row['kinds'][kind]['kld_nats']:.4f}" for kind in kinds),
        f"{row['kld_nats']:.4f} ± {row['kld_error_nats']:.4f}",
        f"{row['top1']:.1%}",
        f"{math.exp(row['log_ppl_ratio']):.3f}",
    ]


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def targets(rows: Mapping[str, Row]) -> list[str]:
    """What was promised of recipes beside llama.cpp's types, each with whether it is met; only what was measured."""
    found = []
    for recipe, peer, factor, bits in TARGETS:
        if "kld_nats" not in rows.get(recipe, {}) or "kld_nats" not in rows.get(peer, {}):
            continue
        ratio = rows[recipe]["kld_nats"] / rows[peer]["kld_nats"]
        most = bits or rows[peer]["bits_per_weight"]
        met = ratio <= factor and rows[recipe]["bits_per_weight"] <= most
        found.append(
            f"{'met   ' if met else 'MISSED'} {recipe}: {ratio:.2f} of {peer}'s KLD, at most {factor}; "
            f"{rows[recipe]['bits_per_weight']:.2f} bits a weight, at most {most:.2f}"
        )
    return found


def main() -> int:
    asked = _arguments()
    found: dict[str, dict[str, Row]] = {}
    for name in asked.models:
        held = ruler(MODELS[name], asked.kinds, asked.texts, asked.windows)
        found[name] = {row: attempt(f"{name} {row}", make) for row, make in _ways(held, asked).items()}
        tell("\n".join(targets(found[name])))
    print("\n\n".join(table(MODELS[name], rows, asked.kinds) for name, rows in found.items()))
    if asked.json:
        asked.json.write_text(json.dumps({"windows": asked.windows, "models": found}, indent=2), "utf-8")
    return int(any("error" in row for rows in found.values() for row in rows.values()))


def _ways(held: Ruler, asked: argparse.Namespace) -> Mapping[str, Callable[[], Row]]:
    """How each row of the table is made."""
    ways = {str(folder): partial(held.of_folder, folder, asked.accuracy_level) for folder in asked.folders}
    ways |= {recipe: partial(recipe_row, held, asked.calibration, recipe) for recipe in asked.recipes}
    for peer in asked.peers:
        ways[peer] = (
            partial(genai_row, held, GENAI[peer])
            if peer in GENAI
            else partial(llama_cpp_row, held, asked.calibration, peer)
        )
    return ways


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, of in (("models", MODELS), ("kinds", KINDS), ("peers", (*GENAI, *LLAMA_CPP))):
        parser.add_argument(
            f"--{name}", type=partial(_listed, of), default=list(of), help=f"of {', '.join(of)}; or none"
        )
    parser.add_argument(
        "--recipes", type=partial(_listed, ()), default=list(RECIPES), help="with commas between; or none"
    )
    parser.add_argument("--folders", type=Path, nargs="*", default=[], help="onnxruntime-genai folders of the model")
    parser.add_argument("--accuracy-level", type=int, choices=(1, 4), help="of --folders, instead of their own")
    parser.add_argument("--windows", type=int, default=10, help=f"of {CONTEXT} tokens, of each kind")
    parser.add_argument("--texts", type=Path, default=TEXTS, help="a folder with KIND.txt")
    builtin = calibration_texts.BUILT_IN
    parser.add_argument("--calibration", type=Path, default=builtin, help="texts, instead of Edgeship's own")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _listed(known: Iterable[str], words: str) -> list[str]:
    listed = [] if words == "none" else [word.strip() for word in words.split(",")]
    if unknown := [word for word in listed if known and word not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(known)}")
    return listed


if __name__ == "__main__":
    sys.exit(main())
