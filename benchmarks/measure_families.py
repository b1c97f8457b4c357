"""How exact the streaming builder is, for every family that it knows: small random checkpoints against transformers.

For each family, over the checkpoints that its tests are made with, all in FP32: the largest difference of a logit from
what transformers computes, as a part of the logits' range; whether 64 greedy tokens are the same; the largest
difference with a LoRA adapter on every linear layer; and whether Edgeship's batched engine and onnxruntime-genai run
the package and give the same tokens. It takes some minutes and needs the packages that the tests need.

The last line printed is one JSON object; --write puts it into docs/families.json, of which `make docs` makes a table.
usage: measure_families.py [--only ARCHITECTURE,...] [--write]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests import families  # noqa: E402
from tests.families import Case, Made  # noqa: E402
from tests.onnx_decoder import OnnxDecoder, genai_greedy  # noqa: E402
from tests.packages import config_of  # noqa: E402

from edgeship.engine.decoders.onnx import OnnxDecoder as Batched  # noqa: E402
from edgeship.errors import EdgeshipError  # noqa: E402

KEPT = ROOT / "docs" / "families.json"


def measure(cases: Sequence[Case]) -> dict[str, Any]:
    """One family."""
    differences, adapted, same, genai, batched = [], [], True, True, True
    for case in cases:
        with tempfile.TemporaryDirectory() as home:
            made = families.make(case, Path(home))
            folder = made.built(precision="fp32")
            decoder, prompt = OnnxDecoder(folder), case.prompt
            for length, logits in made.reference.logits.items():
                differences.append(families.distance(decoder.logits(prompt[:length]), logits))
            for length, greedy in made.reference.greedy.items():
                found = decoder.greedy(prompt[:length], len(greedy.tokens))
                same &= found == greedy.tokens
                genai &= _runs_in_genai(made, folder, length)
            batched &= _is_batched(folder)
            adapted.append(families.distance(*families.with_adapter(made, Path(home) / "adapter")))
    return {
        "configurations": len(cases),
        "difference": float(f"{max(differences):.1e}"),
        "difference_with_adapter": float(f"{max(adapted):.1e}"),
        "same_tokens": same,
        "batched": batched,
        "genai": genai,
    }


def _runs_in_genai(made: Made, folder: Path, length: int) -> bool:
    expected = made.reference.greedy[length].tokens
    try:
        return genai_greedy(folder, made.case.prompt[:length], len(expected)) == expected
    except Exception as error:  # whatever the library's bindings raise
        print(f"{made.case.name}: onnxruntime-genai: {error}", file=sys.stderr)
        return False


def _is_batched(folder: Path) -> bool:
    try:
        Batched(config_of(folder), threads=1, slots=1, context_tokens=64).close()
    except EdgeshipError as error:
        print(f"{folder}: {error.what}", file=sys.stderr)
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    by_family = families.by_architecture()
    wanted = arguments.only.split(",") if arguments.only else list(by_family)
    found = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    for name in wanted:
        found[name] = measure(by_family[name])
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
        if arguments.write:
            KEPT.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
