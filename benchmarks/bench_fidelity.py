"""What quantization costs the example checkpoint in quality, by our recipes, plain rounding and llama.cpp.

Everything reads the same token ids and is compared with the same logits: the checkpoint's own in transformers, FP32.
As in llama.cpp's perplexity tool, a text has CONTEXT tokens and the second half of them is scored. Each text begins
where a conversation begins, so that the model reads what it was made for. Every other case of the eval is read; the
rest are what calibration may see. ONNX folders are run by onnxruntime-genai; llama.cpp is given the tokens and the
reference in its own file format, so its tokenizer plays no part. Both multiply in int8.
"""

from __future__ import annotations

import importlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import measured
import numpy as np
import numpy.typing as npt
import peers
from measured import attempt

CONTEXT = 128
FIRST_SCORED = CONTEXT // 2
EXAMPLE = Path(__file__).parent.parent / "examples" / "triage"
GGUF_KINDS = ("Q4_0", "Q4_K_M", "Q5_K_M", "Q8_0")
UNQUANTIZED_BITS = 0.06
ROUNDING_BLOCKS = (16, 32, 64, 128, 256)
OURS: dict[str, tuple[str, ...]] = {
    "fp32": ("--precision", "fp32"),
    "fp16": ("--precision", "fp16"),
    "int8": ("--precision", "int8"),
    **{f"int4 block {size}": ("--precision", "int4", "--block-size", str(size)) for size in (16, 32, 64, 128)},
    "int4 block 32 rtn": ("--precision", "int4", "--block-size", "32", "--method", "rtn"),
    "int4-small": ("--precision", "int4-small"),
    "int4-balanced": ("--precision", "int4-balanced"),
    "int4-best": ("--precision", "int4-best"),
}
CALIBRATED = ("int4 block 32", "int4 block 128", "int4-best")

Tokens = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Row = dict[str, Any]


def compare(folder: Path) -> dict[str, Any]:
    """A row for every build: mean KLD in nats, bits a weight, top-1 agreement; and what follows from them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    checkpoint = EXAMPLE / "checkpoint"
    tokens = texts(EXAMPLE)
    reference = reference_logits(checkpoint, tokens)
    weights = _parameters(checkpoint)
    rows: dict[str, Row] = {}
    rows |= _gguf_rows(folder, checkpoint, tokens, reference, weights)
    for name, build in _onnx_builds(folder, checkpoint, rows).items():
        rows[name] = attempt(f"fidelity {name}", partial(_onnx_row, build, tokens, reference, weights))
    return {
        "texts": len(tokens),
        "positions": int(reference.shape[0] * reference.shape[1]),
        "parameters": weights,
        "rows": rows,
        "at_equal_bits": at_equal_bits(rows),
    }


def at_equal_bits(rows: dict[str, Row]) -> dict[str, Row]:
    """Our INT4 rows beside the least KLD that plain rounding reaches with as many bits a weight.

    Between two of its builds that is a straight line in log KLD over bits. Where we take fewer bits than its smallest
    does, that one stands in; where we take more than its largest, there is nothing to compare with.
    """
    front: list[tuple[float, float]] = []
    for bits, kld in sorted(_point(row) for name, row in rows.items() if name.startswith("rounding") and _ran(row)):
        if not front or kld < front[-1][1]:
            front.append((bits, kld))
    found: dict[str, Row] = {}
    for name, row in rows.items():
        if not (name.startswith("edgeship int4") and _ran(row) and front and _point(row)[0] <= front[-1][0]):
            continue
        bits, kld = _point(row)
        line = np.interp(bits, [at for at, _ in front], [np.log(value) for _, value in front])
        found[name] = {"rounding_kld_nats": round(float(np.exp(line)), 6), "ratio": round(float(kld / np.exp(line)), 3)}
    return found


def _ran(row: Row) -> bool:
    return "error" not in row


def _point(row: Row) -> tuple[float, float]:
    return row["bits_per_weight"], row["mean_kld_nats"]


# --- what is read, and the yardstick ---------------------------------------------------------------------------------


def texts(example: Path) -> Tokens:
    """int32 [texts, CONTEXT]: a conversation with its answer, then those that follow until the text is full."""
    from jinja2 import Environment
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(example / "checkpoint" / "tokenizer.json"))
    template = Environment().from_string((example / "checkpoint" / "chat_template.jinja").read_text("utf-8"))
    found, text = [], list[int]()
    for case in _cases(example)[::2]:
        turns = [*case["messages"], {"role": "assistant", "content": case["expected"]}]
        text += tokenizer.encode(template.render(messages=turns), add_special_tokens=False).ids
        if len(text) >= CONTEXT:
            found.append(text[:CONTEXT])
            text = []
    return np.array(found, np.int32)


def calibration_texts(example: Path, path: Path) -> Path:
    """The cases that `texts` leaves out, written to `path` as an eval has them."""
    path.write_text("".join(json.dumps(case) + "\n" for case in _cases(example)[1::2]), "utf-8")
    return path


def reference_logits(checkpoint: Path, tokens: Tokens) -> Floats:
    """float32 [texts, CONTEXT - FIRST_SCORED - 1, vocabulary] of transformers; the last token predicts nothing."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, local_files_only=True)
    with torch.inference_mode():
        rows = [model(torch.tensor(text[None].astype(np.int64))).logits[0, FIRST_SCORED:-1].numpy() for text in tokens]
    return np.stack(rows)


def _cases(example: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (example / "eval.jsonl").read_text("utf-8").splitlines()]


def _parameters(checkpoint: Path) -> int:
    """Weights in model.safetensors."""
    with (checkpoint / "model.safetensors").open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(int(np.prod(tensor["shape"])) for name, tensor in header.items() if name != "__metadata__")


# --- ONNX ------------------------------------------------------------------------------------------------------------


def _onnx_builds(folder: Path, checkpoint: Path, rows: dict[str, Row]) -> dict[str, tuple[peers.Command, Path]]:
    """Name -> the command and the folder that it makes."""
    builds: dict[str, tuple[peers.Command, Path]] = {}
    for symmetric in (True, False):
        for size in ROUNDING_BLOCKS if symmetric else ROUNDING_BLOCKS[:2]:  # no pairs of zero points in wider blocks
            name = f"rounding int4 block {size}" + ("" if symmetric else " asymmetric")
            out = folder / name.replace(" ", "-")
            builds[name] = peers.genai_best(checkpoint, out, size, symmetric=symmetric), out
    with_texts = ("--calibrate", str(calibration_texts(EXAMPLE, folder / "calibration.jsonl")))
    recipes = dict(OURS)
    bits = rows.get("llama.cpp Q4_K_M", {}).get("bits_per_weight")
    if bits:
        # Norms and biases, which stay FP32, count in what is measured but not in what is asked for.
        mixed = ("--bits", f"{bits - UNQUANTIZED_BITS:.3f}")
        recipes["int4 at the bits of Q4_K_M"] = ("--precision", "int4", "--block-size", "32", *mixed)
    for name in CALIBRATED:
        recipes[f"{name} calibrated"] = (*OURS[name], *with_texts)
        recipes[f"{name} calibrated, search"] = (*OURS[name], *with_texts, "--method", "search")
    for name, arguments in recipes.items():
        out = folder / name.replace(",", "").replace(" ", "-")
        builds[f"edgeship {name}"] = (
            peers.edgeship_build(checkpoint, out, *arguments, home=folder / "home"),
            out,
        )
    return builds


def _onnx_row(build: tuple[peers.Command, Path], tokens: Tokens, reference: Floats, weights: int) -> Row:
    from edgeship.measure.fidelity import kld

    command, folder = build
    measured.measure(command.words, command.environment)
    logits = onnx_logits(folder, tokens)
    divergence = kld(reference, logits).ravel()
    file_bytes = sum((folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    return {
        "mean_kld_nats": round(float(divergence.mean()), 7),
        "mean_kld_error_nats": round(float(divergence.std(ddof=1) / np.sqrt(divergence.size)), 7),
        "top1_agreement": round(float((logits.argmax(-1) == reference.argmax(-1)).mean()), 4),
        "bits_per_weight": round(8 * _onnx_weight_bytes(folder) / weights, 3),
        "file_bits_per_weight": round(8 * file_bytes / weights, 3),
    }


def onnx_logits(folder: Path, tokens: Tokens) -> Floats:
    """float32 [texts, CONTEXT - FIRST_SCORED - 1, vocabulary] of an onnxruntime-genai folder.

    The scored half is fed token by token, since a fast graph computes logits for the last token only.
    """
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    found = []
    for text in tokens:
        params = og.GeneratorParams(model)
        params.set_search_options(do_sample=False, max_length=CONTEXT)
        generator = og.Generator(model, params)
        generator.append_tokens(text[:FIRST_SCORED])
        rows = []
        for token in text[FIRST_SCORED:-1]:
            generator.append_tokens(np.array([token], np.int32))
            rows.append(np.array(generator.get_output("logits")[0, -1], np.float32))
        found.append(rows)
    return np.array(found)


def _onnx_weight_bytes(folder: Path) -> int:
    """Bytes of what stands for the checkpoint's weights: all initializers but the tables of rotary angles.

    What two initializers share in the data file, as tied embeddings may, counts once.
    """
    ir: Any = importlib.import_module("onnx_ir")
    found: dict[Any, int] = {}
    for value in ir.load(folder / "model.onnx").graph.initializers.values():
        if "_cache" not in value.name:
            tensor = value.const_value
            place = tensor.offset if isinstance(tensor, ir.ExternalTensor) else value.name
            found[place] = int(tensor.nbytes)
    return sum(found.values())


# --- GGUF ------------------------------------------------------------------------------------------------------------


def _gguf_rows(folder: Path, checkpoint: Path, tokens: Tokens, reference: Floats, weights: int) -> dict[str, Row]:
    base = folder / "base.logits"
    base.write_bytes(llama_cpp_base(tokens, reference))
    original = folder / "f32.gguf"

    def row(kind: str) -> Row:
        tools = peers.llama_cpp()
        gguf = folder / f"{kind.lower()}.gguf"
        converts = kind == "F32"
        command = tools.convert(checkpoint, gguf, "f32") if converts else tools.quantize(original, gguf, kind)
        measured.measure(command.words, command.environment)
        printed = _divergence(tools.divergence(gguf, base, CONTEXT))
        mean, error = _printed(printed, "Mean    KLD:")
        return {
            "mean_kld_nats": mean,
            "mean_kld_error_nats": error,
            "top1_agreement": round(_printed(printed, "Same top p:")[0] / 100, 4),
            "bits_per_weight": round(8 * tools.tensor_bytes(gguf) / weights, 3),
            "file_bits_per_weight": round(8 * gguf.stat().st_size / weights, 3),
        }

    return {f"llama.cpp {kind}": attempt(f"fidelity {kind}", partial(row, kind)) for kind in ("F32", *GGUF_KINDS)}


def _divergence(command: peers.Command) -> str:
    """What the tool printed. On a busy machine it may end before its log has written the last lines: again, then."""
    for _ in range(10):
        printed = measured.measure(command.words, command.environment).output
        if "Same top p:" in printed:
            return printed
    raise ValueError(f"{command.words[0]} printed no result")


def llama_cpp_base(tokens: Tokens, logits: Floats) -> bytes:
    """Tokens and log-probabilities as llama.cpp's perplexity tool reads them.

    A position is scale and least log-probability (float32), then 16-bit steps above that; what lies more than 16 nats
    under the likeliest token counts as 16 under. Vocabularies are padded to an even number.
    """
    count, context = tokens.shape
    vocabulary = logits.shape[-1]
    rows = logits.reshape(-1, vocabulary).astype(np.float64)
    top = rows.max(axis=1, keepdims=True)
    least = np.maximum(rows.min(axis=1, keepdims=True), top - 16)
    log_sum = top + np.log(np.exp(rows - top).sum(axis=1, keepdims=True))
    scale = ((top - least) / 65535).astype(np.float32)
    steps = np.rint((np.maximum(rows, least) - least) / np.where(scale, scale, 1)).clip(0, 65535)
    out = np.zeros((len(rows), 4 + vocabulary + vocabulary % 2), np.uint16)
    out[:, :4] = np.hstack([scale, (least - log_sum).astype(np.float32)]).view(np.uint16)
    out[:, 4 : 4 + vocabulary] = steps
    head = np.array([context, vocabulary, count], np.int32).tobytes()
    return b"_logits_" + head + tokens.astype(np.int32).tobytes() + out.tobytes()


def _printed(output: str, label: str) -> tuple[float, float]:
    """Value and error of a line like "Mean    KLD:   0.010000 ±   0.000100"."""
    line = next(line for line in output.splitlines() if line.startswith(label))
    value, error = line.removeprefix(label).replace("%", "").split("±")
    return float(value), float(error)
