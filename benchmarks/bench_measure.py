"""What measuring costs, and how long the measurements take.

cost      tokens a second that 8 clients get from `edgeship serve` while they are watched and recorded, over those of
          the same clients who are not, in turns; and how much of a core the watching itself takes
eval      the example's cases side by side, over one after another (eval_parts.py)
compare-example, compare-0.5b
          seconds and memory of `edgeship compare` on three precisions (measure_compare.py); one round each

peers     a package, its server, llama.cpp's server and Foundry Local by `edgeship bench`, one round (measure_peers.py)

The last line printed is one JSON object with the figures; those called `target` judge them.
usage: bench_measure.py [--only cost,...] [--rounds N]; rounds are those of cost, and a third as many of eval
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import bench_engine
import bench_serve
import eval_parts
import http_client
import measure_compare
import measure_peers
import peers
import streams
import turns
from peers import WORK
from turns import Figures, in_turns

from edgeship.measure.load.driver import Bounds, Load
from edgeship.measure.load.subject import Access, Asked, Subject, opened
from edgeship.measure.load.watch import Place, Watch, place_of
from edgeship.settings import Settings
from edgeship.targets import resolve

CLIENTS, REQUESTS, PROMPT_TOKENS, NEW_TOKENS = 8, 16, 64, 32
"""Requests are those of all clients together."""
_IDLE_S = 5.0


def cost(rounds: int) -> Figures:
    """`bare` are clients that take in events and no more; `watched` the same beside a watch; `bench` is ours."""
    folder = bench_engine.package()
    with bench_serve.serving(folder) as port:
        target = resolve(f"http://{http_client.HOST}:{port}/v1", _settings())
        with opened(target, Asked(PROMPT_TOKENS, NEW_TOKENS), Access(), timeout_s=600) as subject:
            place = place_of(target, subject.chat)
            bare, ours = partial(_bare, port, folder), partial(_benched, subject)
            bare()
            ours()
            runs = in_turns(rounds, {"bare": bare, "watched": partial(_watched, place, bare), "bench": ours})
        idle = _idle_core(place)
    figures: Figures = {name: _tokens_per_s(found) for name, found in runs.items()}
    return {
        **{f"{name}_tokens_per_s": value for name, value in figures.items()},
        "watched_over_bare": figures["watched"] / figures["bare"],
        "bench_over_bare": figures["bench"] / figures["bare"],
        "watching_takes_of_a_core": idle,
        "target": {"watched_over_bare": "over 0.98", "bench_over_bare": "over 0.98"},
    }


def _bare(port: int, folder: Path) -> Figures:
    def ask(number: int) -> Iterator[object]:
        prompt = random.Random(time.perf_counter_ns() + number).choices(range(1000, 100_000), k=PROMPT_TOKENS)
        return http_client.complete(port, prompt, NEW_TOKENS, model=folder.name, temperature=1.0)

    begun = time.perf_counter()
    streams.closed_loop(ask, CLIENTS, REQUESTS // CLIENTS)
    return {"tokens": REQUESTS * NEW_TOKENS, "wall_s": time.perf_counter() - begun}


def _watched(place: Place, load: Callable[[], Figures]) -> Figures:
    with Watch(place):
        return load()


def _benched(subject: Subject) -> Figures:
    driven = subject.drive(Load(CLIENTS), Bounds(REQUESTS, None, 600), warm_up=0)
    tokens = sum(record.reply.output_tokens or 0 for record in driven.records)
    prompts = {record.reply.prompt_tokens for record in driven.records}
    assert prompts == {PROMPT_TOKENS}, prompts
    assert tokens == REQUESTS * NEW_TOKENS, tokens
    return {"tokens": tokens, "wall_s": driven.wall_s}


def _tokens_per_s(runs: list[Figures]) -> float:
    """Of all rounds together: a machine that was slow for a while was so for all of them."""
    return float(sum(run["tokens"] for run in runs) / sum(run["wall_s"] for run in runs))


def _idle_core(place: Place) -> float:
    """The part of a core that the watching takes while nothing is asked."""
    begun_s, used_s = time.perf_counter(), time.process_time()
    with Watch(place):
        time.sleep(_IDLE_S)
    return (time.process_time() - used_s) / (time.perf_counter() - begun_s)


def _settings() -> Settings:
    home = WORK / "home"
    return Settings(home=home, cache_dir=home / "models", config_file=home / "config.toml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections: dict[str, Callable[[int], Figures]] = {
        "cost": cost,
        "eval": lambda rounds: eval_parts.speed(max(1, rounds // 3)),
        "compare-example": lambda _: measure_compare.example(),
        "compare-0.5b": lambda _: measure_compare.half_billion(),
        "peers": lambda _: measure_peers.side_by_side(),
    }
    parser.add_argument("--only", default=",".join(sections))
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    asked: dict[str, Callable[[], Figures]] = {
        name: partial(section, arguments.rounds) for name, section in sections.items()
    }
    turns.report(parser, asked, arguments.only, {"rounds": arguments.rounds, "versions": peers.versions()})


if __name__ == "__main__":
    main()
