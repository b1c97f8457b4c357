"""What is fastest on this machine for a package: threads, activations, answers at once. Measured once, kept at home.

<home>/tuning/<machine>/<package>.json, where the machine is its CPU, the cores it grants and onnxruntime's version, and
the package the digest of its model. Nothing is written into the package.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from edgeship.doctor import OTHER_RUNTIMES, installed_version
from edgeship.errors import EngineFailed, NotBatchable, PackageDamaged
from edgeship.package import DAMAGED, genai_config
from edgeship.package import manifest as manifests
from edgeship.progress import Progress, silent
from edgeship.system import child, foreign, machine
from edgeship.system.json_file import Complaint, read_object, write_object
from edgeship.system.storage import disk_errors
from edgeship.version import __version__

FORMAT = 1
PROMPT_TOKENS, NEW_TOKENS = 512, 64
"""The answer whose time decides between settings."""
GROWTH = 1.05
"""More answers at once must bring so many times the tokens a second."""
EXACT = 1
"""The accuracy level that multiplies in float32, more exactly than any other."""
"""Above this part of the cores in use by others, trials of settings say little."""
_MARGIN = 1.03  # by which another setting must beat the default: less is chance
_CLOSE = 1.15  # settings within this of the best are measured again
_HOPELESS = 1.5  # fewer threads still would be slower still
_BUDGET_S = 50.0
_ANSWERS_S, _STEPS_S = 4.0, 10.0
_LISTEN_S = 0.2
_ELSEWHERE = "set EDGESHIP_HOME to another folder."
_MEASURE_AGAIN = "Measure again: `edgeship tune`."

Ask = Callable[[Mapping[str, Any]], dict[str, Any]]
"""What `tune_worker` answers to a job."""


@dataclass(frozen=True)
class Setting:
    """accuracy_level: None leaves the package's own, EXACT multiplies in float32."""

    threads: int
    accuracy_level: int | None = None


@dataclass(frozen=True)
class Trial:
    """How fast a setting is: seconds for each token of a prompt of PROMPT_TOKENS, and for each new token after it."""

    setting: Setting
    prompt_token_s: float
    new_token_s: float

    @property
    def answer_s(self) -> float:
        """Seconds of a prompt of PROMPT_TOKENS and an answer of NEW_TOKENS."""
        return PROMPT_TOKENS * self.prompt_token_s + NEW_TOKENS * self.new_token_s


@dataclass(frozen=True)
class Tuning:
    """What runs a package best on this machine.

    accuracy_level: of quantized matrices, None for the package's own.
    slots: answers at once; more bring hardly more tokens a second.
    step_s: tokens in a run of one sequence -> seconds. batch_s: sequences -> seconds of a step of one token each.
    trials: every setting that was measured, the default first.
    busy: the part of the cores (0 to 1) that other programs used meanwhile. Above machine.BUSY the default setting
    stays: what is fastest beside other programs need not be so without them.
    """

    threads: int
    accuracy_level: int | None
    slots: int
    step_s: Mapping[int, float]
    batch_s: Mapping[int, float]
    measured_at: str
    versions: Mapping[str, str]
    cpu: str
    trials: tuple[Trial, ...]
    busy: float = 0.0

    @property
    def default(self) -> Trial:
        """What is used without tuning: all cores, and what the package says."""
        return self.trials[0]

    @property
    def chosen(self) -> Trial:
        """The trial of what is used from now on."""
        return next(trial for trial in self.trials if trial.setting == Setting(self.threads, self.accuracy_level))

    @property
    def speedup(self) -> float:
        """How many times as fast as by default one answer is."""
        return self.default.answer_s / self.chosen.answer_s


# --- measuring -------------------------------------------------------------------------------------------------------


def measure(
    folder: Path, *, progress: Progress = silent, ask: Ask | None = None, clock: Callable[[], float] = time.monotonic
) -> Tuning:
    """Measures a package on this machine, each setting in a process of its own, in under a minute for small models.

    ask: measures one setting; by default a child does.
    Raises NotBatchable where there is nothing to tune, EngineFailed.
    """
    config = genai_config.read(folder, DAMAGED)
    if config.provider != "cpu":
        raise _nothing_to_tune(folder, f"it runs by the execution provider {config.provider!r}")
    here = machine.this_machine()
    session = _Session(folder, progress, ask or (lambda job: _in_child(folder, job)), clock)
    try:
        session.try_settings(here.cores_usable)
    except NotBatchable as error:
        raise _nothing_to_tune(folder, error.what) from error
    trials = session.trials()
    busy = session.busy()
    best = choose(trials) if busy <= machine.BUSY else trials[0]
    steps = session.steps(best.setting)
    return Tuning(
        threads=best.setting.threads,
        accuracy_level=best.setting.accuracy_level,
        slots=int(steps["slots"]),
        step_s=_by_number(steps["run_s"]),
        batch_s=_by_number(steps["batch_s"]),
        measured_at=manifests.now(),
        versions={"onnxruntime": runtime_version(), "edgeship": __version__},
        cpu=here.cpu,
        trials=trials,
        busy=busy,
    )


def choose(trials: Iterable[Trial]) -> Trial:
    """The fastest trial, or the first one where none is clearly faster. Never less exact than the package."""
    default, *others = trials
    best = min(others, key=lambda trial: trial.answer_s, default=default)
    return best if best.answer_s * _MARGIN < default.answer_s else default


def usual(times: Sequence[float]) -> float:
    """The lower quartile: what else a machine does makes times longer and never shorter."""
    return sorted(times)[len(times) // 4]


def thread_counts(cores: int, physical: int | None) -> list[int]:
    """Numbers of threads worth a trial, the largest first: each up to four, else all, half, and powers of two.

    physical: cores without those that share one with another, None where that is not known.
    """
    if cores <= 4:
        return list(range(cores, 0, -1))
    found = {cores, cores // 2} | {2**power for power in range(cores.bit_length())}
    if physical:
        found.add(min(physical, cores))
    return sorted(found, reverse=True)


class _Session:
    """The trials of one package, as many as the time allows."""

    def __init__(self, folder: Path, progress: Progress, ask: Ask, clock: Callable[[], float]) -> None:
        self._folder, self._progress, self._ask, self._clock = folder, progress, ask, clock
        self._begun = clock()
        self._longest_s = 0.0
        self._prompt_tokens: int | None = None
        self._found: dict[Setting, list[Trial]] = {}
        self._busy: list[float] = []

    def try_settings(self, cores: int) -> None:
        """Threads first, float32 with the best number of them; all settings that are close once more."""
        import psutil

        counts = thread_counts(cores, psutil.cpu_count(logical=False))
        quantized = bool(self._answers(Setting(counts[0]))["quantized"])
        for threads in counts[1:]:
            if not self._time_left(1 + quantized) or self.trials()[-1].answer_s > _HOPELESS * self._fastest_s():
                break
            self._answers(Setting(threads))
        self._repeat(1 + quantized)
        if quantized:
            self._answers(Setting(choose(self.trials()).setting.threads, EXACT))
            self._repeat(1)

    def trials(self) -> tuple[Trial, ...]:
        """What is known by now; settings in the order in which they were first tried."""
        # What else the machine does can only slow a trial: of several the fastest is nearest to the truth.
        return tuple(min(found, key=lambda trial: trial.answer_s) for found in self._found.values())

    def _fastest_s(self) -> float:
        return min(trial.answer_s for trial in self.trials())

    def _repeat(self, trials: int) -> None:
        """Once more what is close to the fastest, and the default, while there is time for so many trials."""
        default, *others = self.trials()
        close = [trial.setting for trial in others if trial.answer_s < _CLOSE * self._fastest_s()]
        for setting in [default.setting, *close[::-1]] if close else []:
            if self._time_left(trials):
                self._answers(setting)

    def busy(self) -> float:
        """The part of the usable cores that was taken between the measurements."""
        return fmean(self._busy)

    def steps(self, setting: Setting) -> dict[str, Any]:
        return self._job("steps", setting, _STEPS_S, f"several answers at once, {_words(setting)}")

    def _answers(self, setting: Setting) -> dict[str, Any]:
        found = self._job("answers", setting, _ANSWERS_S, f"one answer, {_words(setting)}")
        self._prompt_tokens = int(found["prompt_tokens"])
        trial = Trial(setting, usual(found["prompt_s"]) / self._prompt_tokens, usual(found["step_s"]))
        self._found.setdefault(setting, []).append(trial)
        return found

    def _job(self, what: str, setting: Setting, seconds: float, message: str) -> dict[str, Any]:
        self._busy.append(_taken_cores())
        started = self._clock()
        self._progress(f"measuring {message}", min(0.99, (started - self._begun) / _BUDGET_S))
        job = {
            "folder": str(self._folder.absolute()),
            "what": what,
            "seconds": seconds,
            "prompt_tokens": self._prompt_tokens,
            **asdict(setting),
        }
        found = self._ask(job)
        self._longest_s = max(self._longest_s, self._clock() - started)
        return found

    def _time_left(self, trials: int) -> bool:
        """Whether so many trials leave the time that the last measurement needs."""
        return self._clock() - self._begun + trials * self._longest_s + _STEPS_S < _BUDGET_S


def _taken_cores() -> float:
    """The part of the cores granted to this process that is in use right now, by whomever."""
    import psutil

    used = psutil.cpu_percent(_LISTEN_S, percpu=True)
    free = sum(1 - float(used[core]) / 100 for core in machine.granted_cores() if core < len(used))
    # A quota grants fewer cores than there are, and any that are free.
    return max(0.0, 1 - free / machine.usable_cores())


def _in_child(folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return child.run("edgeship.engine.tune_worker", job)
    except child.Died as death:
        hint = "Check the package with `edgeship cache verify`."
        raise death.as_error(EngineFailed, "the measuring process", where=str(folder), hint=hint) from death


def _nothing_to_tune(folder: Path, why: str) -> NotBatchable:
    return NotBatchable(
        f"there is nothing to tune: {why}",
        where=str(folder),
        hint="It runs all the same, by onnxruntime-genai.",
    )


def _words(setting: Setting) -> str:
    threads = f"{setting.threads} thread{'s' if setting.threads > 1 else ''}"
    return threads if setting.accuracy_level is None else f"{threads}, float32 activations"


def _by_number(values: Mapping[str, float]) -> dict[int, float]:
    return {int(number): float(seconds) for number, seconds in values.items()}


# --- keeping ---------------------------------------------------------------------------------------------------------


def remembered(home: Path, folder: Path) -> Tuning | None:
    """What was measured on this machine for this package; None where nothing was, or what is kept cannot be used."""
    from pydantic import TypeAdapter, ValidationError

    try:
        kept = read_object(_place(home, folder), Complaint(EngineFailed, _MEASURE_AGAIN))
        if kept["format"] != FORMAT:
            return None
        # As text: the keys of JSON objects are, and only text may become a number.
        tuning = TypeAdapter(Tuning).validate_json(json.dumps(kept["tuning"]))
    except (OSError, LookupError, EngineFailed, ValidationError):
        return None
    return tuning if _is_sensible(tuning) else None


def remember(home: Path, folder: Path, tuning: Tuning) -> Path:
    """Keeps a tuning for this machine and package; the file. Raises NotWritable, DiskShort."""
    path = _place(home, folder)
    with disk_errors(path.parent, _ELSEWHERE):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_object(path, {"format": FORMAT, "tuning": asdict(tuning)})
    return path


def runtime_version() -> str:
    """The version of the onnxruntime that is installed, by whatever name."""
    names = ("onnxruntime", *OTHER_RUNTIMES)
    return next((found for name in names if (found := installed_version(name))), "unknown")


def _place(home: Path, folder: Path) -> Path:
    here = machine.this_machine()
    on = _digest([here.cpu, str(here.cores_usable), runtime_version()])
    return home / "tuning" / on[:16] / f"{_package_digest(folder)}.json"


def _package_digest(folder: Path) -> str:
    """Of the model's files by the manifest; without one, of the configuration and the files' sizes and times."""
    try:
        files = manifests.read(folder).manifest.files
        return _digest(f"{name} {files[name].sha256}" for name in sorted(files) if ".onnx" in name)
    except PackageDamaged:
        stats = [(path.name, path.stat()) for path in sorted(folder.glob("*.onnx*"))]
        config = foreign.read_bytes(folder / genai_config.FILE_NAME).decode(errors="replace")
        return _digest([config, *(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)])


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


def _is_sensible(tuning: Tuning) -> bool:
    """What a hand or another version may have written is not run."""
    times = [*tuning.step_s.values(), *tuning.batch_s.values()]
    return (
        1 <= tuning.threads <= machine.usable_cores()
        and tuning.accuracy_level in (None, EXACT)
        and tuning.slots >= 1
        and all(0 < seconds < float("inf") for seconds in times)
        and any(trial.setting == Setting(tuning.threads, tuning.accuracy_level) for trial in tuning.trials)
        and all(trial.answer_s > 0 for trial in tuning.trials)
    )
