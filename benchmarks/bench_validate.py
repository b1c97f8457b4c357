"""Whether the release gate catches what is wrong and lets pass what is good, and how long it takes.

time      seconds of the default gate and of --quick over the example, with each check's
calm      the good example again and again, every other time beside a process that keeps all cores busy: all pass
catch     every faulty package and every faulty server of the tests, with the checks that failed or were undecided
peers     llama.cpp's server and Foundry Local with the example: what each check says of them

The last line printed is one JSON object with the figures; those called `target` judge them.
usage: bench_validate.py [--only time,...] [--rounds N] [--effort quick|default] [--fault NAME,...]
rounds are those of calm; effort is that of calm, catch and peers; fault chooses some of catch's
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import llama_server
import measured
import peers
import turns
from http_client import HOST
from peers import WORK
from turns import CORES, Figures

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "triage"
HOME = WORK / "home"
_EVAL = ("--eval", str(EXAMPLE / "eval.jsonl"))
_NOT_GOOD = ("fail", "undecided")
sys.path.insert(0, str(ROOT))  # the faults are those of the tests


def package() -> Path:
    """The example as an INT4 package, built once."""
    folder = WORK / "validate-example"
    if not (folder / "edgeship.json").is_file():
        _edgeship("build", str(EXAMPLE / "checkpoint"), "--precision", "int4", "--output", str(folder), well=True)
    return folder


def gate(*words: str) -> dict[str, Any]:
    """The verdict of one gate; also of one that fails."""
    verdict: dict[str, Any] = json.loads(_edgeship("validate", *words, "--json"))
    return verdict


def takes() -> Figures:
    """Seconds, in a process of its own each."""
    figures: Figures = {"target": {"default_s": "under 240", "quick_s": "under 40"}}
    for name, words in {"default": (), "quick": ("--quick",)}.items():
        begun = time.perf_counter()
        verdict = gate(str(package()), *_EVAL, *words)
        figures[f"{name}_s"] = time.perf_counter() - begun
        figures[f"{name}_checks_s"] = {check: found["took_s"] for check, found in verdict["checks"].items()}
        figures[f"{name}_outcome"] = verdict["outcome"]
    return figures


def calm(rounds: int, effort: str) -> Figures:
    """How many of so many runs pass, and what others say."""
    alarms: list[dict[str, str]] = []
    for number in range(rounds):
        with _busy() if number % 2 else nullcontext():
            verdict = gate(str(package()), *_EVAL, *_as_told(effort))
        if verdict["outcome"] != "pass":
            alarms.append({"run": str(number + 1), "beside another": str(bool(number % 2))} | _failing(verdict))
        print(f"run {number + 1}: {verdict['outcome']} in {verdict['took_s']:.0f} s", file=sys.stderr, flush=True)
    return {"runs": rounds, "passed": rounds - len(alarms), "alarms": alarms, "target": {"passed": f"{rounds}"}}


def catch(effort: str, only: Collection[str]) -> Figures:
    """By fault, which check it belongs to, and what each check that did not pass says first."""
    from tests.validate import fault_packages

    figures: Figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        for fault in fault_packages.FAULTS:
            if not only or fault.name in only:
                place = Path(scratch) / fault.name
                place.mkdir()
                verdict = gate(str(fault.package(package(), place / "package")), *_EVAL, *_as_told(effort))
                figures[fault.name] = _caught(fault.caught_by, verdict)
        for name, caught_by in _server_faults():
            if not only or name in only:
                figures[name] = _caught(caught_by, _of_faulty_server(name, Path(scratch), effort))
    missed = [name for name, found in figures.items() if not found["caught"]]
    return {"faults": len(figures), "missed": missed, "by_fault": figures, "target": {"missed": "none"}}


def _server_faults() -> Iterator[tuple[str, str]]:
    from tests.validate.faults import CAUGHT_BY

    yield from CAUGHT_BY.items()


def _of_faulty_server(name: str, scratch: Path, effort: str) -> dict[str, Any]:
    from tests.validate.faulty import faulty_process

    with faulty_process(name, scratch, package()) as (url, _):
        return gate(url, *_EVAL, *_as_told(effort))


def side_by_side(effort: str) -> Figures:
    """llama.cpp's server with the example in FP16, and our package in Foundry Local where its SDK is installed."""
    cpp, gguf = peers.llama_cpp(), WORK / "validate-f16.gguf"
    if not gguf.is_file():
        conversion = cpp.convert(EXAMPLE / "checkpoint", gguf, "f16")
        measured.measure(conversion.words, conversion.environment)
    figures: Figures = {}
    with llama_server.serving(cpp.binaries, gguf, CORES, slots=4, context=4 * 1024) as port:
        figures["llama-server"] = _told(gate(f"http://{HOST}:{port}", *_EVAL, *_as_told(effort)))
    if importlib.util.find_spec("foundry_local_sdk"):
        _edgeship("foundry", "register", str(package()), well=True)
        figures["foundry"] = _told(gate(f"foundry:{package().name}", *_EVAL, *_as_told(effort)))
    return figures


def _caught(caught_by: str, verdict: dict[str, Any]) -> Figures:
    caught = verdict["checks"][caught_by]["outcome"] == "fail"
    found = {"belongs_to": caught_by, "caught": caught, "took_s": verdict["took_s"]} | _failing(verdict)
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def _failing(verdict: dict[str, Any]) -> dict[str, str]:
    """What each check that neither passed nor was skipped says first."""
    return {
        name: next(f"{each['outcome']}: {each['told']}" for each in found["findings"] if each["outcome"] in _NOT_GOOD)
        for name, found in verdict["checks"].items()
        if found["outcome"] in _NOT_GOOD
    }


def _told(verdict: dict[str, Any]) -> Figures:
    outcomes = {name: found["outcome"] for name, found in verdict["checks"].items()}
    return {"outcome": verdict["outcome"], "checks": outcomes, "because": _failing(verdict)}


def _as_told(effort: str) -> Sequence[str]:
    return ("--quick",) if effort == "quick" else ()


def _edgeship(*words: str, well: bool = False) -> str:
    """What a command prints. well: it must end well."""
    environment = os.environ | {"EDGESHIP_HOME": str(HOME), "EDGESHIP_CONFIG": str(HOME / "config.toml")}
    command = [sys.executable, "-m", "edgeship", *words]
    return subprocess.run(command, check=well, stdout=subprocess.PIPE, text=True, env=environment).stdout


@contextmanager
def _busy() -> Iterator[None]:
    """Processes that work all the time, one for each core."""
    working = [multiprocessing.get_context("spawn").Process(target=_work, daemon=True) for _ in range(CORES)]
    for process in working:
        process.start()
    try:
        yield
    finally:
        for process in working:
            process.kill()


def _work() -> None:
    while True:
        sum(range(10_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections: dict[str, Callable[[argparse.Namespace], Figures]] = {
        "time": lambda _: takes(),
        "calm": lambda given: calm(given.rounds, given.effort),
        "catch": lambda given: catch(given.effort, given.fault),
        "peers": lambda given: side_by_side(given.effort),
    }
    parser.add_argument("--only", default=",".join(sections))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--effort", choices=("quick", "default"), default="default")
    parser.add_argument("--fault", type=lambda text: text.split(","), default=[])
    arguments = parser.parse_args()
    asked = {name: partial(section, arguments) for name, section in sections.items()}
    turns.report(parser, asked, arguments.only, {"effort": arguments.effort, "versions": peers.versions()})


if __name__ == "__main__":
    main()
