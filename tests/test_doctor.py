from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeship import doctor
from edgeship.cli import main
from edgeship.doctor import Check, Examination
from edgeship.settings import Settings
from edgeship.store.packages import install
from edgeship.system.machine import GIB, Machine
from edgeship.system.shell import our_install
from tests.packages import make_package
from tests.store.test_attestations import verdict

MACHINE = Machine(4, 2, 16 * GIB, 8 * GIB, "a CPU", "Linux x86_64")
WHOLE = dict.fromkeys((*doctor.PACKAGES, *doctor.ORIGINAL_PACKAGES), "1.0") | {
    "onnxruntime": "1.31.0",
    "onnxruntime-genai": "0.18.0",
    "torch": "2.13.0+cpu",
}


def packages(*, without: tuple[str, ...] = (), has_gpu: bool = False, **changes: str) -> list[Check]:
    """The checks that are not ok, on an installation that is whole but for these changes ('_' stands for '-')."""
    found = WHOLE | {name.replace("_", "-"): version for name, version in changes.items()}
    versions: Callable[[str], str | None] = {name: v for name, v in found.items() if name not in without}.get
    return [check for check in doctor.check_packages(versions, has_gpu=has_gpu) if check.status != "ok"]


def only(checks: list[Check]) -> Check:
    assert len(checks) == 1, checks
    return checks[0]


def test_a_whole_installation_has_nothing_to_report() -> None:
    assert packages() == []


@pytest.mark.parametrize("genai", ["0.16.0", "0.18.0", "1.0"])
def test_olive_beside_a_genai_that_it_cannot_drive(genai: str) -> None:
    check = next(
        c for c in packages(olive_ai="0.13.0", requests="2.32", onnxruntime_genai=genai) if "olive-ai" in c.name
    )
    assert check.name == f"olive-ai 0.13.0 and onnxruntime-genai {genai}"
    assert "No module named 'onnxruntime_genai.models.quantized_model'" in check.detail
    assert "pip uninstall -y olive-ai" in (check.hint or "")


def test_olive_beside_a_genai_with_which_it_fails_in_silence() -> None:
    failed = [
        c for c in packages(olive_ai="0.13.0", requests="2.32", onnxruntime_genai="0.15.2") if "olive-ai" in c.name
    ]
    assert "No output model produced" in only(failed).detail
    assert "exits 0" in only(failed).detail


def test_olive_where_it_works() -> None:
    checks = packages(olive_ai="0.13.0", requests="2.32", onnxruntime_genai="0.14.1")
    assert only(checks).name == "onnxruntime-genai 0.14.1"
    assert only(checks).status == "warning"


def test_olive_without_requests() -> None:
    checks = packages(olive_ai="0.13.0", onnxruntime_genai="0.14.1")
    assert ("olive-ai 0.13.0 without requests", "warning", "pip install requests") in [
        (check.name, check.status, check.hint) for check in checks
    ]


def test_foundry_beside_another_onnxruntime() -> None:
    check = only(packages(onnxruntime="1.32.1", foundry_local_sdk="2.2.1"))
    assert (check.name, check.status) == ("onnxruntime 1.32.1 and foundry-local-sdk 2.2.1", "failed")
    assert check.hint == "pip install onnxruntime==1.31.0 foundry-local-sdk==2.2.1"
    assert packages(foundry_local_sdk="2.2.1") == []


def test_versions_that_were_not_tested_are_warned_of() -> None:
    assert only(packages(onnxruntime="1.30.0")).status == "warning"
    assert only(packages(onnxruntime_genai="0.17.2")).status == "warning"
    assert only(packages(torch="2.12.0+cpu")).hint == "pip install torch==2.13.0"


@pytest.mark.parametrize("variant", doctor.OTHER_RUNTIMES)
def test_two_onnxruntimes_at_once(variant: str) -> None:
    beside: dict[str, Any] = {variant: "1.31.0"}
    check = only(packages(**beside))
    assert (check.name, check.status) == (f"onnxruntime and {variant}", "failed")
    assert f"pip uninstall -y onnxruntime {variant}" in (check.hint or "")


@pytest.mark.parametrize("package", ["onnxruntime", "onnxruntime-genai", "tokenizers", "onnx-ir"])
def test_what_is_needed_must_be_there(package: str) -> None:
    check = only(packages(without=(package,)))
    assert (check.name, check.status, check.detail) == ("packages", "failed", f"missing: {package}")
    assert "pip install" in (check.hint or "")


def test_the_original_is_optional() -> None:
    assert packages(without=("torch", "transformers")) == []
    absent = doctor.check_packages({"onnx": "1.0", "peft": "1.0"}.get, has_gpu=False)
    check = next(check for check in absent if check.name == "packages for the original")
    assert check.status == "ok"
    assert "not installed: torch, transformers" in check.detail
    assert our_install("original") in check.detail


@pytest.mark.parametrize("changes", [{"torch": "2.13.0+cu130"}, {"torch": "2.13.0", "nvidia-cuda-runtime": "13.0"}])
def test_a_cuda_build_of_torch_is_only_worth_its_size_with_a_gpu(changes: dict[str, Any]) -> None:
    check = only(packages(**changes))
    assert (check.name, check.status) == (f"torch {changes['torch']}", "warning")
    assert packages(has_gpu=True, **changes) == []


@pytest.mark.parametrize(
    ("version", "bits", "status"),
    [((3, 11, 0), 64, "ok"), ((3, 14, 1), 64, "ok"), ((3, 10, 9), 64, "failed"), ((3, 12, 0), 32, "failed")],
)
def test_python(version: tuple[int, ...], bits: int, status: str) -> None:
    check = doctor.check_python(version, bits)
    assert check.status == status
    assert f"{bits} bit" in check.detail


def test_cores() -> None:
    check = doctor.check_cores(MACHINE, None)
    assert (check.status, check.hint) == ("ok", None)
    assert check.detail == "2 of 4 usable (a CPU); Edgeship uses them all"
    assert doctor.check_cores(MACHINE, 2).status == "ok"


@pytest.mark.parametrize(
    ("default", "said"),
    [
        (1, "onnxruntime by itself would use 1 and leave 1 idle"),
        (2, "Edgeship uses them all"),
        (4, "onnxruntime by itself would start 4 threads on them"),
    ],
)
def test_what_onnxruntime_would_do_with_the_cores(default: int, said: str) -> None:
    check = doctor.check_cores(MACHINE, None, default)
    assert check.status == "ok"
    assert check.detail.endswith(said)


@pytest.mark.parametrize(
    ("threads", "fault", "remedy"), [(1, "leaves 1 idle", "or set it to 2"), (3, "3", "to 2: more")]
)
def test_threads_of_the_settings_that_do_not_fit_the_cores(threads: int, fault: str, remedy: str) -> None:
    check = doctor.check_cores(MACHINE, threads, 1)
    assert check.status == "warning"
    assert check.detail.endswith(fault)
    assert remedy in (check.hint or "")


def test_threads_that_onnxruntime_starts_by_itself() -> None:
    found = doctor.runtime_default_threads()
    assert found is None or found >= 1


def test_packages_that_were_not_measured_are_a_hint_and_no_fault() -> None:
    assert doctor.check_tuning([]).hint is None
    check = doctor.check_tuning(["triage-int4:1"])
    assert (check.name, check.status, check.detail) == ("tuning", "ok", "not measured on this machine: triage-int4:1")
    assert "`edgeship tune triage-int4:1`" in (check.hint or "")
    assert doctor.check_tuning([f"model:{version}" for version in range(1, 9)]).detail.endswith("model:5 and 3 more")


def test_packages_that_failed_the_release_gate_are_named(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.check_gate([]).status == "ok"
    check = doctor.check_gate(["triage-int4:1", "triage-int8:2"])
    assert (check.status, check.detail) == ("warning", "packages that failed it: triage-int4:1, triage-int8:2")
    for name, outcome in (("bad", "fail"), ("good", "pass")):
        package = make_package(tmp_path / name, weights=name.encode() * 50)
        install(package.folder, settings.cache_dir, gate=verdict(outcome), force=True)
    main(["doctor", "--json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["release gate"]["detail"] == "packages that failed it: bad:1"


@pytest.mark.parametrize(("gib", "status"), [(8.0, "ok"), (3.9, "warning"), (0.9, "failed")])
def test_memory(gib: float, status: str) -> None:
    check = doctor.check_memory(replace(MACHINE, memory_available_bytes=int(gib * GIB)))
    assert check.status == status
    assert f"{gib} GiB available of 16.0 GiB" in check.detail


def test_disk(tmp_path: Path) -> None:
    folders = {"home": tmp_path / "a", "cache": tmp_path / "b"}
    free = {tmp_path / "a": 2 * GIB, tmp_path / "b": GIB - 1}
    checks = doctor.check_disk(folders, free=free.__getitem__)
    assert [(check.name, check.status) for check in checks] == [("disk for home", "ok"), ("disk for cache", "failed")]
    assert str(tmp_path / "b") in checks[1].detail


def test_a_cache_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    assert doctor.check_writable(tmp_path / "deep" / "cache").status == "ok"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    check = doctor.check_writable(tmp_path / "file" / "cache")
    assert check.status == "failed"
    assert "edgeship cache cd" in (check.hint or "")


def test_foundry_local_is_optional() -> None:
    assert doctor.check_foundry(None, None) == Check("Foundry Local", "ok", "not installed (optional)")
    found = doctor.check_foundry("2.2.1", "/bin/foundry")
    assert (found.status, found.detail) == ("ok", "foundry-local-sdk 2.2.1, foundry at /bin/foundry")


def test_only_a_failed_check_counts() -> None:
    ok, warning, failed = (Check("x", status, "") for status in ("ok", "warning", "failed"))
    assert Examination((ok, warning)).ok
    assert not Examination((ok, failed)).ok


def test_an_examination_has_every_check(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "check_providers", lambda: Check("execution providers", "ok", "CPUExecutionProvider"))
    monkeypatch.setattr(doctor, "this_machine", lambda _limit: MACHINE)
    found = doctor.examine(settings, versions=WHOLE.get)
    assert found.ok
    names = [
        "Python",
        "packages",
        "packages for the original",
        "cores",
        "memory",
        "disk for home",
        "disk for cache",
        "cache folder",
        "execution providers",
        "Foundry Local",
    ]
    assert [check.name for check in found.checks] == names
    with_packages = doctor.examine(settings, versions=WHOLE.get, untuned=["triage:1"], unfit=[])
    assert [check.name for check in with_packages.checks] == [*names, "tuning", "release gate"]
    assert with_packages.ok


def test_a_memory_limit_of_the_settings_is_judged(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "check_providers", lambda: Check("execution providers", "ok", ""))
    found = doctor.examine(replace(settings, memory_bytes=GIB // 2), versions=WHOLE.get)
    assert [check.name for check in found.checks if check.status == "failed"] == ["memory"]


def test_versions_come_from_what_is_installed() -> None:
    assert doctor.installed_version("numpy")
    assert doctor.installed_version("no-such-distribution") is None


def test_an_onnxruntime_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    check = doctor.check_providers()
    assert check.status == "failed"
    assert "does not load" in check.detail


@pytest.mark.slow
def test_the_providers_of_the_installed_onnxruntime() -> None:
    check = doctor.check_providers()
    assert check.status == "ok"
    assert "CPUExecutionProvider" in check.detail
