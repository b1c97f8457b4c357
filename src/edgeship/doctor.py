"""What this machine can build and run: facts judged one by one, each with what to do about it."""

from __future__ import annotations

import platform
import re
import shutil
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeship.settings import Settings
from edgeship.system import telemetry
from edgeship.system.machine import GIB, Machine, free_disk_bytes, this_machine
from edgeship.system.shell import our_install

Status = Literal["ok", "warning", "failed"]
Versions = Callable[[str], str | None]

PACKAGES = (
    "filelock",
    "httpx2",
    "huggingface-hub",
    "jinja2",
    "jsonschema-rs",
    "llguidance",
    "numpy",
    "onnx",
    "onnx-ir",
    "platformdirs",
    "psutil",
    "pydantic",
    "pyyaml",
    "rich",
    "tokenizers",
    "tomlkit",
    "typer",
)
ORIGINAL_PACKAGES = ("peft", "torch", "transformers")
OTHER_RUNTIMES = ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-qnn")
CUDA_PARTS = (
    "cuda-toolkit",
    "nvidia-cuda-runtime",
    "nvidia-cuda-runtime-cu12",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
)
# What Edgeship is tested with; a test holds these, pyproject.toml, constraints.txt and docs/versions.md together.
TESTED = {"onnxruntime": "1.31", "onnxruntime-genai": "0.18", "torch": "2.13.0", "foundry-local-sdk": "2.2.1"}
FOUNDRY_SDK = "foundry-local-sdk"
FOUNDRY_RUNTIME = "1.31.0"
"""The one onnxruntime that the Foundry Local SDK works with."""
_MOST_NAMED = 5
_RUNTIME_FIX = 'pip install "onnxruntime>=1.31,<1.32"'
_GENAI_FIX = 'pip install "onnxruntime-genai>=0.18,<0.19"'
_OLIVE_FIX = (
    "give Olive an environment of its own: pip uninstall -y olive-ai; python -m venv olive-env; "
    "olive-env/bin/pip install olive-ai==0.13.0 requests onnxruntime==1.28.0 onnxruntime-genai==0.14.1"
)


@dataclass(frozen=True)
class Check:
    """One finding. hint: what to do, where there is something to do."""

    name: str
    status: Status
    detail: str
    hint: str | None = None


@dataclass(frozen=True)
class Examination:
    """Every finding, in the order in which to read them."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """False where a check failed; warnings do not count."""
        return all(check.status != "failed" for check in self.checks)


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, None where there is none; imports nothing of it."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def examine(
    settings: Settings,
    *,
    versions: Versions = installed_version,
    untuned: Sequence[str] | None = None,
    unfit: Sequence[str] | None = None,
) -> Examination:
    """Looks at this machine.

    versions: says which version of a distribution is installed.
    untuned, unfit: packages, as name:version, that were not measured here, and those that failed the release gate; None
    leaves that check out.
    """
    machine = this_machine(settings.memory_bytes)
    return Examination(
        (
            check_python(sys.version_info[:3], struct.calcsize("P") * 8),
            *check_packages(versions, has_gpu=shutil.which("nvidia-smi") is not None),
            check_cores(machine, settings.threads, runtime_default_threads()),
            check_memory(machine),
            *check_disk({"home": settings.home, "cache": settings.cache_dir}),
            check_writable(settings.cache_dir),
            check_providers(),
            check_foundry(versions(FOUNDRY_SDK), shutil.which("foundry")),
            *([] if untuned is None else [check_tuning(untuned)]),
            *([] if unfit is None else [check_gate(unfit)]),
        )
    )


def check_python(version: tuple[int, ...], bits: int) -> Check:
    """Python 3.11 or newer, 64 bit."""
    detail = f"{platform.python_implementation()} {_dotted(version)}, {bits} bit"
    if version < (3, 11) or bits < 64:
        return Check("Python", "failed", detail, "Install a 64-bit Python of 3.11 or newer.")
    return Check("Python", "ok", detail)


def check_packages(versions: Versions, *, has_gpu: bool) -> list[Check]:
    """What is installed, then each combination that does not work."""
    return [
        _check_needed(versions),
        _check_original(versions),
        *_check_runtimes(versions),
        *_check_olive(versions),
        *_check_torch(versions, has_gpu),
    ]


def _check_needed(versions: Versions) -> Check:
    name, packages = "packages", ("onnxruntime", "onnxruntime-genai", *PACKAGES)
    found = {package: versions(package) for package in packages}
    missing = [package for package, version in found.items() if version is None]
    if not missing:
        return Check(name, "ok", ", ".join(f"{package} {version}" for package, version in found.items()))
    detail = f"missing: {', '.join(missing)}"
    fixes = {"onnxruntime": _RUNTIME_FIX, "onnxruntime-genai": _GENAI_FIX}
    fix = fixes.get(missing[0], our_install()) if len(missing) == 1 else our_install()
    return Check(name, "failed", detail, fix)


def _check_original(versions: Versions) -> Check:
    """PyTorch and what goes with it are optional, so they may be missing."""
    found = {package: versions(package) for package in ORIGINAL_PACKAGES}
    if None not in found.values():
        detail = ", ".join(f"{package} {version}" for package, version in found.items())
    else:
        missing = ", ".join(package for package, version in found.items() if version is None)
        detail = (
            f"not installed: {missing} (optional, to compare with the checkpoint in transformers: "
            f"{our_install('original')})"
        )
    return Check("packages for the original", "ok", detail)


def _check_runtimes(versions: Versions) -> list[Check]:
    """onnxruntime beside its variants, and beside what pins it."""
    checks = []
    runtime, genai, foundry = versions("onnxruntime"), versions("onnxruntime-genai"), versions(FOUNDRY_SDK)
    others = [name for name in OTHER_RUNTIMES if versions(name) is not None]
    if runtime and others:
        checks.append(
            Check(
                f"onnxruntime and {' and '.join(others)}",
                "failed",
                "they overwrite each other's files, and which one is loaded is chance",
                f"pip uninstall -y onnxruntime {' '.join(others)}; {_RUNTIME_FIX}",
            )
        )
    wrong_runtime = runtime is not None and not _is_tested("onnxruntime", runtime)
    if wrong_runtime and foundry:
        checks.append(
            Check(
                f"onnxruntime {runtime} and {FOUNDRY_SDK} {foundry}",
                "failed",
                f"{FOUNDRY_SDK} {TESTED[FOUNDRY_SDK]} works with onnxruntime {FOUNDRY_RUNTIME} alone",
                f"pip install onnxruntime=={FOUNDRY_RUNTIME} {FOUNDRY_SDK}=={TESTED[FOUNDRY_SDK]}",
            )
        )
    elif wrong_runtime:
        checks.append(Check(f"onnxruntime {runtime}", "warning", _tested_with("onnxruntime"), _RUNTIME_FIX))
    if genai is not None and not _is_tested("onnxruntime-genai", genai):
        checks.append(Check(f"onnxruntime-genai {genai}", "warning", _tested_with("onnxruntime-genai"), _GENAI_FIX))
    return checks


def _check_olive(versions: Versions) -> list[Check]:
    """Olive's own ModelBuilder pass beside the onnxruntime-genai that is here. A warning: Edgeship does not need it."""
    olive, genai = versions("olive-ai"), versions("onnxruntime-genai")
    if olive is None:
        return []
    checks = []
    together = f"olive-ai {olive} and onnxruntime-genai {genai}"
    if genai is not None and _numbers(genai) >= (0, 16):
        fault = "Olive's ModelBuilder fails: No module named 'onnxruntime_genai.models.quantized_model'"
        checks.append(Check(together, "warning", fault, _OLIVE_FIX))
    elif genai is not None and _numbers(genai) >= (0, 15):
        fault = "Olive prints 'No output model produced', writes no model and still exits 0"
        checks.append(Check(together, "warning", fault, _OLIVE_FIX))
    if versions("requests") is None:
        fault = "Olive imports requests, does not ask for it, and cannot start without"
        checks.append(Check(f"olive-ai {olive} without requests", "warning", fault, "pip install requests"))
    return checks


def _is_tested(package: str, version: str) -> bool:
    wanted = _numbers(TESTED[package])
    return _numbers(version)[: len(wanted)] == wanted


def _tested_with(package: str) -> str:
    return f"Edgeship is tested with {package} {TESTED[package]}"


def _check_torch(versions: Versions, has_gpu: bool) -> list[Check]:
    torch = versions("torch")
    if torch is None:
        return []
    checks = []
    build = f"the CPU build of {TESTED['torch']}"
    fix = f"pip uninstall -y torch, then install {build} as pytorch.org says for your system."
    cuda = re.search(r"\+cu\d", torch) or any(versions(part) is not None for part in CUDA_PARTS)
    if cuda and not has_gpu:
        fault = "this is the CUDA build, several GB that a machine without an NVIDIA GPU never uses"
        checks.append(Check(f"torch {torch}", "warning", fault, fix))
    if not _is_tested("torch", torch):
        checks.append(
            Check(f"torch {torch}", "warning", _tested_with("torch"), f"pip install torch=={TESTED['torch']}")
        )
    return checks


def check_cores(machine: Machine, threads: int | None, runtime_default: int | None = None) -> Check:
    """Cores that this process may use, whether the settings use them, and whether onnxruntime by itself would.

    runtime_default: threads that onnxruntime starts where nothing is said, None where that is not known.
    """
    usable = machine.cores_usable
    detail = f"{usable} of {machine.cores_total} usable ({machine.cpu}); "
    if threads is None:
        detail += "Edgeship uses them all"
        if runtime_default is not None and runtime_default < usable:
            detail += f"; onnxruntime by itself would use {runtime_default} and leave {usable - runtime_default} idle"
        elif runtime_default is not None and runtime_default > usable:
            detail += f"; onnxruntime by itself would start {runtime_default} threads on them"
        return Check("cores", "ok", detail)
    detail += f"threads is set to {threads}"
    if threads > usable:
        hint = f"Set threads to {usable}: more threads than cores are slower."
        return Check("cores", "warning", detail, hint)
    if threads < usable:
        hint = f"Remove threads from the config file or EDGESHIP_THREADS, or set it to {usable}."
        return Check("cores", "warning", f"{detail}, which leaves {usable - threads} idle", hint)
    return Check("cores", "ok", detail)


def runtime_default_threads() -> int | None:
    """Threads that onnxruntime starts where nothing is said: one for each physical core of the machine."""
    import psutil

    cores = psutil.cpu_count(logical=False)
    return int(cores) if cores else None


def check_tuning(untuned: Sequence[str]) -> Check:
    """Which packages, as name:version, were not measured on this machine. They run all the same."""
    if not untuned:
        return Check("tuning", "ok", "every package in the cache is measured on this machine")
    detail = f"not measured on this machine: {_first(untuned)}"
    return Check("tuning", "ok", detail, f"`edgeship tune {untuned[0]}` finds what runs it fastest here.")


def check_gate(unfit: Sequence[str]) -> Check:
    """Which packages, as name:version, the release gate found unfit."""
    if not unfit:
        return Check("release gate", "ok", "no package in the cache is known to have failed it")
    hint = f"`edgeship model info {unfit[0]}` tells which checks failed."
    return Check("release gate", "warning", f"packages that failed it: {_first(unfit)}", hint)


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"


def check_memory(machine: Machine) -> Check:
    """Failed under 1 GiB of available memory, a warning under 4 GiB."""
    available = machine.memory_available_bytes
    detail = f"{_gib(available)} available of {_gib(machine.memory_total_bytes)}"
    if available < GIB:
        return Check("memory", "failed", detail, "Close other programs: even the smallest models need 1 GiB.")
    if available < 4 * GIB:
        hint = "Small models run; what a larger one needs, `edgeship inspect` says."
        return Check("memory", "warning", detail, hint)
    return Check("memory", "ok", detail)


def check_disk(folders: dict[str, Path], *, free: Callable[[Path], int] = free_disk_bytes) -> list[Check]:
    """Failed under 1 GiB of free disk, for each folder by its name."""
    checks = []
    for name, folder in folders.items():
        free_bytes = free(folder)
        detail = f"{_gib(free_bytes)} free at {folder}"
        if free_bytes < GIB:
            hint = "Free some, or choose another place with EDGESHIP_HOME or `edgeship cache cd`."
            checks.append(Check(f"disk for {name}", "failed", detail, hint))
        else:
            checks.append(Check(f"disk for {name}", "ok", detail))
    return checks


def check_writable(folder: Path) -> Check:
    """Whether files can be made in `folder`, or where it would be made; leaves nothing behind."""
    import tempfile

    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        hint = "Choose another folder with `edgeship cache cd PATH`, or mend its permissions."
        return Check("cache folder", "failed", f"{folder} cannot be written to: {error.strerror or error}", hint)
    return Check("cache folder", "ok", f"{folder} can be written to")


def check_providers() -> Check:
    """The execution providers that the installed onnxruntime offers."""
    name = "execution providers"
    telemetry.switch_off()
    try:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        providers = list(onnxruntime.get_available_providers())
    except Exception as error:  # a broken native library fails in many ways, and each is a finding
        return Check(name, "failed", f"onnxruntime does not load: {error}", _RUNTIME_FIX)
    if "CPUExecutionProvider" not in providers:
        return Check(name, "failed", f"CPUExecutionProvider is not among {', '.join(providers)}", _RUNTIME_FIX)
    return Check(name, "ok", ", ".join(providers))


def check_foundry(sdk_version: str | None, command: str | None) -> Check:
    """Foundry Local is optional, so it may be missing."""
    found = [f"{FOUNDRY_SDK} {sdk_version}"] if sdk_version else []
    found += [f"foundry at {command}"] if command else []
    return Check("Foundry Local", "ok", ", ".join(found) or "not installed (optional)")


def _numbers(version: str) -> tuple[int, ...]:
    """'2.13.0+cpu' as (2, 13, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f} GiB"
