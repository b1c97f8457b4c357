"""What quantization costs real models in quality: our recipes, llama.cpp's types and onnxruntime-genai's builder.

Everything reads the same windows of token ids, prose, code, dialogue and Chinese, and is compared with the same
predictions: the checkpoint's own in transformers, FP32 (reference_logits.py). ONNX folders are run by ONNX Runtime as
they are but for the positions that they tell (scored_onnx.py); llama.cpp's own tool scores its files. Both multiply in
int8. What was made stays in benchmarks/work, and a run that was killed goes on (quality_rows.py).

The models' weights are moved off the grid of the files that they come in, which would flatter some formats
(real_checkpoints.py); smollm2 and gemma3 are as those files say.

A recipe is what follows `edgeship build --precision`. TEXTS in it stands for the calibration texts; PROSE, CODE,
DIALOGUE and CHINESE for those that are scored, of which that one is then left out.

make bench-quality
make bench-quality ARGS="--models smollm2-moved --recipes 'int4,int4 --block-size 64' --peers none"
make bench-quality ARGS="--models smollm2-moved --recipes 'int4 --no-calibrate,int4 --calibrate CODE' --peers none"
make bench-quality ARGS="--models gemma3 --folders build/a build/b --recipes none --peers none"
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import quality_rows
from measured import attempt
from quality_rows import GENAI, LLAMA_CPP, Row, Ruler, Texts
from real_checkpoints import MODELS
from reference_logits import CONTEXT

from edgeship.builder import calibration_texts

MOVED = tuple(name for name, model in MODELS.items() if model.moved)
PEERS = (*GENAI, *LLAMA_CPP)
KINDS = ("prose", "code", "dialogue", "chinese")
RECIPES = ("int4", "int4-small", "int4-fast", "int4 --no-calibrate", "int8")
_UNCALIBRATED = "--no-calibrate"


@dataclass(frozen=True)
class Target:
    """What a recipe promises beside a type of llama.cpp's.

    kld: the most of its KLD. bits: the most a weight may take, where that is not what that type takes.
    top1: whether the likeliest token must be the checkpoint's as often, too.
    """

    recipe: str
    peer: str
    kld: float
    bits: float | None = None
    top1: bool = False


TARGETS = (
    Target("int4", "Q4_K_M", 0.8, top1=True),
    Target("int4-small", "Q4_0", 0.5, bits=4.6),
    Target("int8", "Q8_0", 1.0),
)


# --- the table -------------------------------------------------------------------------------------------------------


def table(name: str, rows: Mapping[str, Row], kinds: Sequence[str]) -> str:
    """Markdown: KLD by kind of text, then the means over the kinds that were scored."""
    head = ["bits a weight", *(f"KLD {kind}" for kind in kinds), "mean KLD, nats", "same top-1", "PPL ratio"]
    lines = [f"| {name} | {' | '.join(head)} |", "|" + " --- |" * (1 + len(head))]
    for title, row in rows.items():
        cells = _cells(row, kinds) if "error" not in row else [row["error"].splitlines()[-1][-100:]]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(row: Row, kinds: Sequence[str]) -> list[str]:
    return [
        f"{row['bits_per_weight']:.2f}",
        *(f"{row['kinds'][kind]['kld_nats']:.4f}" if kind in row["kinds"] else "" for kind in kinds),
        f"{row['kld_nats']:.4f} ± {row['kld_error_nats']:.4f}",
        f"{row['top1']:.1%}",
        f"{math.exp(row['log_ppl_ratio']):.3f}",
    ]


def targets(rows: Mapping[str, Row]) -> Iterator[str]:
    """Each target with whether it is met; only what was measured."""
    found = {name: row for name, row in rows.items() if "error" not in row}
    for target in TARGETS:
        if target.recipe in found and target.peer in found:
            yield _beside_peer(target, found[target.recipe], found[target.peer])
    for name, row in found.items():
        recipe, calibrated, text = name.partition(" --calibrate ")
        plain = found.get(f"{recipe} {_UNCALIBRATED}")
        if calibrated and plain:
            worst = max(
                figures["kld_nats"] / plain["kinds"][kind]["kld_nats"] for kind, figures in row["kinds"].items()
            )
            yield f"{_judged(worst <= 1)} {recipe} calibrated with {text}: at most {worst:.2f} of its KLD uncalibrated"


def _beside_peer(target: Target, row: Row, peer: Row) -> str:
    ratio = row["kld_nats"] / peer["kld_nats"]
    bits = target.bits or peer["bits_per_weight"]
    # As many as are shown: rows are padded otherwise.
    small = round(row["bits_per_weight"], 2) <= round(bits, 2)
    met = ratio <= target.kld and small and (not target.top1 or row["top1"] >= peer["top1"])
    said = (
        f"{_judged(met)} {target.recipe}: {ratio:.2f} of {target.peer}'s KLD, at most {target.kld}; "
        f"{row['bits_per_weight']:.2f} bits a weight, at most {bits:.2f}"
    )
    return f"{said}; top-1 {row['top1']:.1%}, at least {peer['top1']:.1%}" if target.top1 else said


def _judged(met: bool) -> str:
    return "met   " if met else "MISSED"


# --- the command -----------------------------------------------------------------------------------------------------


def main() -> int:
    asked = _arguments()
    found: dict[str, dict[str, Row]] = {}
    for name in asked.models:
        held = quality_rows.ruler(MODELS[name], Texts(asked.texts, asked.calibration), asked.kinds, asked.windows)
        found[name] = {row: attempt(f"{name} {row}", make) for row, make in _ways(held, asked).items()}
        print(*targets(found[name]), sep="\n", file=sys.stderr, flush=True)
    print("\n\n".join(table(MODELS[name].name, rows, asked.kinds) for name, rows in found.items()))
    if asked.json:
        asked.json.write_text(json.dumps({"windows": asked.windows, "models": found}, indent=2), "utf-8")
    return int(any("error" in row for rows in found.values() for row in rows.values()))


def _ways(held: Ruler, asked: argparse.Namespace) -> Mapping[str, Callable[[], Row]]:
    """How each row of the table is made."""
    ways = {
        str(folder): partial(quality_rows.folder_row, held, folder, asked.accuracy_level) for folder in asked.folders
    }
    ways |= {recipe: partial(quality_rows.recipe_row, held, recipe) for recipe in asked.recipes}
    for peer in asked.peers:
        ways[peer] = (
            partial(quality_rows.genai_row, held, GENAI[peer])
            if peer in GENAI
            else partial(quality_rows.llama_cpp_row, held, peer)
        )
    return ways


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, of, taken in (("models", MODELS, MOVED), ("kinds", KINDS, KINDS), ("peers", PEERS, PEERS)):
        parser.add_argument(
            f"--{name}", type=partial(_listed, of), default=list(taken), help=f"of {', '.join(of)}; or none"
        )
    parser.add_argument(
        "--recipes", type=partial(_listed, ()), default=list(RECIPES), help="with commas between; or none"
    )
    parser.add_argument("--folders", type=Path, nargs="*", default=[], help="onnxruntime-genai folders of the model")
    parser.add_argument("--accuracy-level", type=int, choices=(1, 4), help="of --folders, instead of their own")
    parser.add_argument("--windows", type=int, default=10, help=f"of {CONTEXT} tokens, of each kind")
    parser.add_argument("--texts", type=Path, default=Path(__file__).parent / "texts", help="a folder with KIND.txt")
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
