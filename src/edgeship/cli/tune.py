"""`edgeship tune`: what is fastest on this machine for a package, measured and kept."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeship import settings
from edgeship.cli.options import CacheDir, Json, PackageArgument
from edgeship.cli.output import note, print_json, print_table, telling
from edgeship.cli.streams import show
from edgeship.errors import NotSupported

if TYPE_CHECKING:
    from edgeship.engine.tune import Setting, Trial, Tuning


def tune(name: PackageArgument, cache_dir: CacheDir = None, as_json: Json = False) -> int:
    """Measure what is fastest on this machine for a package, and use it from now on."""
    from edgeship import targets
    from edgeship.engine.tune import measure, remember
    from edgeship.system.machine import BUSY

    current = settings.resolve(cache_dir=cache_dir)
    target = targets.resolve(name, current)
    if target.kind == "foundry":
        raise NotSupported(
            "tune measures Edgeship's own engine, and Foundry Local's threads are set when a package is registered",
            hint="Tune the package, then register it: its threads are used there too.",
        )
    folder = target.package_folder()
    with telling() as progress:
        tuning = measure(folder, progress=progress)
    file = remember(current.home, folder, tuning)
    if as_json:
        print_json({"package": name, "file": str(file), **as_dict(tuning)})
    else:
        _print(tuning)
    if tuning.busy > BUSY:
        note(
            f"other programs used {tuning.busy:.0%} of the cores meanwhile, so threads and activations stay as by "
            "default; measure again when they are done"
        )
    if current.threads is not None and current.threads != tuning.threads:
        note(f"threads is set to {current.threads} in your settings, and what is set there is used instead")
    return 0


def untuned(current: settings.Settings) -> list[str]:
    """Packages in the cache, as name:version, for which nothing was measured on this machine."""
    from edgeship.engine.tune import remembered
    from edgeship.package import genai_config
    from edgeship.store import listing

    return [
        entry.ref
        for entry in listing.entries(current.cache_dir)
        if (entry.folder / genai_config.FILE_NAME).is_file() and remembered(current.home, entry.folder) is None
    ]


def as_dict(tuning: Tuning) -> dict[str, Any]:
    """A tuning as `--json` prints it."""
    return asdict(tuning) | {
        "speedup": tuning.speedup,
        "trials": [
            {
                **asdict(trial.setting),
                "prefill_tokens_per_s": 1 / trial.prompt_token_s,
                "decode_tokens_per_s": 1 / trial.new_token_s,
                "answer_s": trial.answer_s,
            }
            for trial in tuning.trials
        ],
    }


def summary(tuning: Tuning) -> str:
    """What is used from now on, and what that is worth."""
    threads = f"{tuning.threads} thread{'s' if tuning.threads > 1 else ''}"
    slots = f"{tuning.slots} answer{'s' if tuning.slots > 1 else ''} at once"
    used = f"used from now on: {threads}, {_activations(tuning.chosen.setting)} activations, {slots}"
    same = tuning.chosen == tuning.default
    gain = "as by default" if same else f"{tuning.speedup:.2f} times as fast as by default"
    together = _rate(tuning, tuning.slots) / _rate(tuning, 1)
    return f"{used}\none answer: {gain}; {slots}: {together:.1f} times the tokens a second of one"


def _print(tuning: Tuning) -> None:
    from edgeship.engine.tune import NEW_TOKENS, PROMPT_TOKENS

    print_table(
        ["THREADS", "ACTIVATIONS", "PREFILL TOK/S", "DECODE TOK/S", f"{PROMPT_TOKENS} + {NEW_TOKENS} TOKENS", ""],
        [_row(trial, tuning) for trial in tuning.trials],
    )
    print_table(
        ["ANSWERS AT ONCE", "TOK/S IN TOTAL", "TOK/S EACH"],
        [[str(rows), f"{rows / step_s:.1f}", f"{1 / step_s:.1f}"] for rows, step_s in sorted(tuning.batch_s.items())],
    )
    print_table(
        ["TOKENS IN A RUN", "MS"],
        [[str(tokens), f"{1000 * run_s:.1f}"] for tokens, run_s in sorted(tuning.step_s.items())],
    )
    show(summary(tuning))


def _row(trial: Trial, tuning: Tuning) -> list[str]:
    marks = [("default", trial == tuning.default), ("chosen", trial == tuning.chosen)]
    return [
        str(trial.setting.threads),
        _activations(trial.setting),
        f"{1 / trial.prompt_token_s:.1f}",
        f"{1 / trial.new_token_s:.1f}",
        f"{trial.answer_s:.2f} s",
        ", ".join(mark for mark, applies in marks if applies),
    ]


def _rate(tuning: Tuning, rows: int) -> float:
    return rows / tuning.batch_s[rows]


def _activations(setting: Setting) -> str:
    return "the package's" if setting.accuracy_level is None else "float32"
