"""Every family from end to end, by the commands that a user types, each in a process of its own.

One small random checkpoint of each family, with a tokenizer and a chat template: `edgeship inspect`, `edgeship ship` to
the end, `edgeship model run` with a question, `edgeship serve` with a chat over HTTP, whole and streamed. Beside them
some checkpoints in other forms: text parts of models that see, quantized ones, a mixture with an adapter. Random
weights know no answers and follow nothing closely when they are rounded, so `ship` is told to install all the same.
The release gate's checks of what does not depend on a model are made of one of each kind alone (WHOLE_GATE).

What the commands print is kept in benchmarks/work/ship-families, a folder for each checkpoint. A line of the table says
of each step "ok" and how long it took, or how it failed. The last line printed is one JSON object; the exit status is 1
where something failed. usage: ship_families.py [--only NAME,...] [--list]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import http_client

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests import checkpoints, families, packings  # noqa: E402
from tests.builder import test_wrapped  # noqa: E402

WORK = Path(__file__).parent / "work" / "ship-families"
EVAL = [("hello world", "how are you today?"), ("how are you?", "order today"), ("system order", "world")]
INSTALL = ("--min-pass-rate", "0", "--max-drop", "1", "--force")
"""What lets a model be installed that knows no answers."""
OF_RANDOM_ANSWERS = {"domain", "format"}
"""Checks that a model fails which knows no answers."""
WHOLE_GATE = (
    *("LlamaForCausalLM", "Phi3ForCausalLM", "Gemma4ForCausalLM", "GptOssForCausalLM", "Qwen3_5ForCausalLM"),
    *("GraniteMoeHybridForCausalLM", "FalconH1ForCausalLM", "Lfm2ForCausalLM"),
)
"""Models that keep different things of a text, or are run by different engines."""
_ELSEWHERE = ("edges", "conformance", "leaks", "recovery")
QUESTION = "hello world, how are you?"
STEPS = ("inspect", "ship", "run", "serve")
_PATIENCE_S = 600


class Failed(Exception):
    """What a step did in place of what it should."""


@dataclass(frozen=True)
class Row:
    """A checkpoint that is taken from end to end.

    make: writes it into a folder, and returns what is given to `inspect` and `ship` beside the folder.
    options: of `ship` alone.
    """

    make: Callable[[Path], Sequence[str]]
    options: tuple[str, ...] = ()
    whole_gate: bool = False


def rows() -> dict[str, Row]:
    """By name: the first case of each family, and other forms."""
    found = {
        name: Row(partial(_family, cases[0]), whole_gate=name in WHOLE_GATE)
        for name, cases in families.by_architecture().items()
    }
    seeing = {case.model: case for case in test_wrapped.CASES}
    for name in ("Gemma3ForConditionalGeneration", "MllamaForConditionalGeneration", "Qwen3_5ForConditionalGeneration"):
        found[name] = Row(partial(_wrapped, seeing[name]))
        found[f"{name}, against transformers"] = Row(partial(_wrapped, seeing[name]), _AGAINST_ORIGINAL)
    for name in ("LlamaForCausalLM", "MllamaForCausalLM"):
        found[f"{name}, against transformers"] = Row(found[name].make, _AGAINST_ORIGINAL)
    forms: dict[str, tuple[packings.Writer, dict[str, Any]]] = {
        "GPTQ": (packings.gptq, packings.stated(**packings.GPTQ)),
        "FP8": (packings.fp8, packings.stated(quant_method="fp8")),
        "bitsandbytes NF4": (packings.nf4, {}),
    }
    found |= {name: Row(partial(_quantized, *form)) for name, form in forms.items()}
    mixture = families.by_architecture()["Qwen3MoeForCausalLM"][0]
    return found | {"Qwen3MoeForCausalLM, adapted": Row(partial(_adapted, mixture))}


_AGAINST_ORIGINAL = ("-p", "int4", "--reference", "transformers")


def _family(case: families.Case, folder: Path) -> Sequence[str]:
    families.make_checkpoint(case, folder)
    return ()


def _wrapped(case: test_wrapped.Wrapped, folder: Path) -> Sequence[str]:
    test_wrapped.made(case, folder)
    return ()


def _quantized(writer: packings.Writer, config: dict[str, Any], folder: Path) -> Sequence[str]:
    packings.quantize(checkpoints.make_checkpoint(folder), writer, config)
    return ()


def _adapted(case: families.Case, folder: Path) -> Sequence[str]:
    adapter = folder.with_name("adapter")
    families.train_adapter(case, families.make_checkpoint(case, folder), adapter)
    return "--adapter", str(adapter)


class Taken:
    """One checkpoint on its way, in an empty folder that is its home."""

    def __init__(self, row: Row, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._environment = {"EDGESHIP_HOME": str(folder / "home"), "EDGESHIP_CONFIG": str(folder / "config.toml")}
        checkpoint = folder / "tiny"
        self._checkpoint, self._options = [str(checkpoint), *row.make(checkpoint)], list(row.options)
        if not row.whole_gate:
            off = "version = 1\n" + "".join(f'[{check}]\noff = "It is made of other models."\n' for check in _ELSEWHERE)
            (folder / "gate.toml").write_text(off, encoding="utf-8")
            self._options += ["--gate", str(folder / "gate.toml")]
        lines = ({"messages": [_said("user", asked), _said("assistant", answer)]} for asked, answer in EVAL)
        (folder / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def inspect(self) -> None:
        self._edgeship("inspect", *self._checkpoint)

    def ship(self) -> None:
        """The release gate fails such a model for what it says alone."""
        self._edgeship("ship", *self._checkpoint, "--eval", str(self._folder / "eval.jsonl"), *INSTALL, *self._options)
        for path in (self._folder / "home" / "reports").rglob("verdict-*.json"):
            checks = json.loads(path.read_text(encoding="utf-8"))["checks"]
            failed = {name for name, check in checks.items() if check["outcome"] not in ("pass", "skipped")}
            if failed - OF_RANDOM_ANSWERS:
                raise Failed(f"{path} fails {', '.join(sorted(failed - OF_RANDOM_ANSWERS))}")

    def run(self) -> None:
        self._edgeship("model", "run", self._package, QUESTION, "--max-tokens", "16")

    def serve(self) -> None:
        """The same chat, whole and streamed, has the same text."""
        body = {"model": self._package, "messages": [_said("user", QUESTION)], "max_tokens": 16, "temperature": 0}
        with self._served() as url:
            request = Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), _JSON)
            with urlopen(request, timeout=_PATIENCE_S) as answer:
                [choice] = json.load(answer)["choices"]
            port = urlsplit(url).port or 0
            events = list(http_client.events(port, "/v1/chat/completions", body | {"stream": True}))
        pieces = [piece["delta"].get("content") or "" for event in events for piece in event["choices"]]
        if "".join(pieces) != choice["message"]["content"]:
            raise Failed(f"streamed {pieces}, and whole {choice['message']['content']!r}")

    @property
    def _package(self) -> str:
        installed = [path.name for path in (self._folder / "home" / "models").glob("tiny*")]
        if len(installed) != 1:
            raise Failed(f"installed are {installed}")
        return installed[0]

    @contextmanager
    def _served(self) -> Iterator[str]:
        words = [sys.executable, "-m", "edgeship", "serve", self._package, "--port", "0", "--json"]
        with (
            (self._folder / "serve.txt").open("w") as log,
            subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | self._environment
            ) as process,
        ):
            assert process.stdout
            try:
                yield str(json.loads("".join(_through(process.stdout, "}\n")))["url"])
            finally:
                process.terminate()

    def _edgeship(self, *words: str) -> None:
        with (self._folder / f"{words[0]}.txt").open("w") as log:
            log.write(f"$ edgeship {' '.join(words)}\n")
            log.flush()
            command = [sys.executable, "-m", "edgeship", *words]
            done = subprocess.run(
                command, stdout=log, stderr=log, check=False, env=os.environ | self._environment, timeout=_PATIENCE_S
            )
        if done.returncode:
            raise Failed(f"exit status {done.returncode}")


def _through(lines: Iterable[str], last: str) -> Iterator[str]:
    """All lines up to the one that is `last`."""
    for line in lines:
        yield line
        if line == last:
            return


_JSON = {"Content-Type": "application/json"}


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def take(row: Row, folder: Path) -> dict[str, Any]:
    """Each step's outcome and seconds; none of those after one that failed."""
    found: dict[str, Any] = {}
    taken = Taken(row, folder)
    for name in STEPS:
        started = time.perf_counter()
        try:
            getattr(taken, name)()
        except Exception as error:  # the others are to be taken all the same
            found[name] = f"{type(error).__name__}: {error}"
            break
        found[name] = round(time.perf_counter() - started, 1)
    return found


def _line(name: str, found: Mapping[str, Any]) -> str:
    told = (found.get(step, "") for step in STEPS)
    cells = (f"ok {each} s" if isinstance(each, float) else each for each in told)
    return f"{name:58}" + "".join(f"{cell:14}" for cell in cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows, with semicolons between them")
    parser.add_argument("--list", action="store_true", help="name the rows, and no more")
    arguments = parser.parse_args()
    every = rows()
    if arguments.list:
        print("\n".join(every))
        return 0
    wanted = arguments.only.split(";") if arguments.only else list(every)
    if unknown := [name for name in wanted if name not in every]:
        parser.error(f"no row is called {unknown[0]}; see --list")
    print(_line("", {step: step for step in STEPS}))
    found = {}
    for name in wanted:
        found[name] = take(every[name], WORK / "".join(each if each.isalnum() else "-" for each in name))
        print(_line(name, found[name]), flush=True)
    print(json.dumps(found))
    return 0 if all(isinstance(each.get(STEPS[-1]), float) for each in found.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
