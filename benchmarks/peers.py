"""The builders that are measured side by side, as commands: ours, llama.cpp's, onnxruntime-genai's and Olive's.

llama.cpp comes from the source package of llama-cpp-python, which holds it whole, and is compiled once under
benchmarks/work/peers; LLAMA_CPP_BIN names a folder with the binaries of a build that exists already. Its converter runs
from the same source with our PyTorch.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

WORK = Path(__file__).parent / "work"
PEERS = WORK / "peers"
LLAMA_CPP_SOURCE = "llama-cpp-python==0.3.36"
_BINARIES = (
    *("llama-quantize", "llama-imatrix", "llama-perplexity"),
    *("llama-bench", "llama-batched-bench", "llama-server"),
)

# The converter knows pre-tokenizers by a hash of what they do to one text, and refuses one that it does not know. Ours
# are made for the purpose and unknown. No text is ever tokenized here, so any name will do. It also wants a library for
# a kind of tokenizer that our checkpoints do not have; what it is told instead is what it would find.
_CONVERT = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[2:]
from conversion.base import TextModel
def no_sentencepiece(*_, **__):
    raise FileNotFoundError("tokenizer.model")
TextModel._set_vocab_sentencepiece = no_sentencepiece
TextModel.get_vocab_base_pre = lambda *_: "gpt-2"
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# onnxruntime-genai's builder 0.18 reads the rotary angles of Gemma 3 as transformers 4 told them.
_GENAI = """
import runpy, sys
import onnxruntime_genai.models
sys.path.insert(0, onnxruntime_genai.models.__path__[0])
from builders.gemma import Gemma3Model
made = Gemma3Model.__init__
def make(self, config, *more):
    theta = {kind: angles["rope_theta"] for kind, angles in config.rope_parameters.items()}
    config.rope_theta, config.rope_local_base_freq = theta["full_attention"], theta["sliding_attention"]
    made(self, config, *more)
Gemma3Model.__init__ = make
Gemma3Model.make_rope_init = lambda self, config: None
runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Command:
    """Words to run, and what to add to the environment."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


def edgeship_build(checkpoint: Path, output: Path, *arguments: str, home: Path) -> Command:
    """`edgeship build`; a home that is empty holds nothing from an earlier build."""
    words = (sys.executable, "-m", "edgeship", "build", str(checkpoint), "--output", str(output), *arguments)
    return Command(words, {"EDGESHIP_HOME": str(home), "EDGESHIP_CONFIG": str(home / "config.toml")})


def has_olive() -> bool:
    """Whether this Edgeship can drive Olive."""
    from edgeship.builder import BUILDERS

    return "olive" in BUILDERS


def genai_build(checkpoint: Path, folder: Path, precision: str, **options: object) -> Command:
    """onnxruntime-genai's builder; `options` are its extra options."""
    words = [sys.executable, "-c", _GENAI, "-i", str(checkpoint), "-o", str(folder)]
    words += ["-p", precision, "-e", "cpu", "-c", str(folder.with_name(f"{folder.name}.cache"))]
    words += ["--extra_options", *(f"{name}={str(value).lower()}" for name, value in options.items())]
    return Command((*words, "hf_token=false"), {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})


def genai_best(checkpoint: Path, folder: Path, block_size: int, *, symmetric: bool = True) -> Command:
    """Its INT4 with every option that makes it faster: logits for the last prompt token only, int8 multiplication."""
    return genai_build(
        checkpoint,
        folder,
        "int4",
        block_size=block_size,
        is_symmetric=symmetric,
        accuracy_level=4,
        algo_config="default" if symmetric else "rtn",
        prune_lm_head=True,
    )


@dataclass(frozen=True)
class LlamaCpp:
    """source: its repository's folder. binaries: where the compiled programs lie."""

    source: Path
    binaries: Path

    def convert(self, checkpoint: Path, gguf: Path, kind: str, *options: str) -> Command:
        """Checkpoint to GGUF as f32, f16 or bf16."""
        script = self.source / "convert_hf_to_gguf.py"
        words = (sys.executable, "-c", _CONVERT, str(self.source), str(script), str(checkpoint))
        return Command((*words, "--outfile", str(gguf), "--outtype", kind, *options), {})

    def quantize(self, source: Path, gguf: Path, kind: str, *options: str) -> Command:
        return Command((str(self.binaries / "llama-quantize"), *options, str(source), str(gguf), kind), {})

    def importance_matrix(self, gguf: Path, text: Path, output: Path) -> Command:
        """What a text says of the model's inputs, for `--imatrix`."""
        words = [str(self.binaries / "llama-imatrix"), "-m", str(gguf), "-f", str(text), "-o", str(output)]
        return Command((*words, "-c", "512", "--parse-special", "--no-ppl"), {})

    def divergence(self, gguf: Path, base: Path, context: int) -> Command:
        """KL divergence from the log-probabilities in `base`, which holds the tokens too."""
        words = [str(self.binaries / "llama-perplexity"), "-m", str(gguf), "--kl-divergence"]
        words += ["--kl-divergence-base", str(base), "-c", str(context), "-b", str(context)]
        return Command(tuple(words), {})

    def tensor_bytes(self, gguf: Path) -> int:
        """Bytes of the tensors alone, without tokenizer and other metadata."""
        sys.path.insert(0, str(self.source / "gguf-py"))
        try:
            reader = importlib.import_module("gguf").GGUFReader(gguf)
        finally:
            sys.path.pop(0)
        return sum(int(tensor.n_bytes) for tensor in reader.tensors)


@cache
def llama_cpp() -> LlamaCpp:
    """llama.cpp, found or made."""
    source = llama_cpp_source()
    given = os.environ.get("LLAMA_CPP_BIN")
    binaries = Path(given) if given else PEERS / "llama.cpp" / "bin"
    if not all((binaries / name).exists() for name in _BINARIES):
        if given:
            raise SystemExit(f"LLAMA_CPP_BIN is {given}, which lacks one of {', '.join(_BINARIES)}")
        _compile(source, binaries.parent)
    return LlamaCpp(source, binaries)


def versions() -> dict[str, str]:
    """What is compared."""
    return {
        "edgeship": version("edgeship"),
        "onnxruntime": version("onnxruntime"),
        "onnxruntime-genai": version("onnxruntime-genai"),
        "llama.cpp": LLAMA_CPP_SOURCE,
    }


def llama_cpp_source() -> Path:
    """The folder of its repository."""
    folder = PEERS / LLAMA_CPP_SOURCE.replace("-", "_").replace("==", "-")
    source = folder / "vendor" / "llama.cpp"
    if not (source / "convert_hf_to_gguf.py").exists():
        download = PEERS / "download"
        download.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        _loudly([*pip, "--dest", str(download), LLAMA_CPP_SOURCE])
        with tarfile.open(download / f"{folder.name}.tar.gz") as archive:
            archive.extractall(PEERS, filter="data")
    return source


def _compile(source: Path, folder: Path) -> None:
    print("compiling llama.cpp (once; about 12 minutes on two cores)", file=sys.stderr, flush=True)
    configure = ["cmake", "-S", str(source), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release"]
    configure += ["-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_CURL=OFF"]
    _loudly(configure + (["-G", "Ninja"] if shutil.which("ninja") else []))
    _loudly(["cmake", "--build", str(folder), "--parallel", str(os.cpu_count() or 1), "--target", *_BINARIES])


def _loudly(command: list[str]) -> None:
    """Runs it with its output on stderr: stdout is for figures."""
    subprocess.run(command, check=True, stdout=sys.stderr)
