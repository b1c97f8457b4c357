"""Every version is stated in several files, and is one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgeship import doctor
from edgeship.builder import olive_env
from edgeship.recipe import olive

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}


def pins(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


CONSTRAINTS = pins(ROOT / "constraints.txt")
OLIVE = pins(olive_env.CONSTRAINTS)
PAGE = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")


def test_what_is_pinned_is_what_is_asked_for() -> None:
    for requirement in [*NEEDED, *(each for extra in EXTRAS.values() for each in extra)]:
        pinned = CONSTRAINTS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned), f"{requirement} and {pinned}"


def test_the_doctor_knows_the_packages_and_their_versions() -> None:
    runtimes = {"onnxruntime", "onnxruntime-genai"}
    assert {requirement.name for requirement in NEEDED} == {*doctor.PACKAGES, *runtimes}
    assert [requirement.name for requirement in EXTRAS["original"]] == list(doctor.ORIGINAL_PACKAGES)
    for name, tested in doctor.TESTED.items():
        assert f"{CONSTRAINTS[name]}.".startswith(f"{tested}.")
    assert CONSTRAINTS["onnxruntime"] == doctor.FOUNDRY_RUNTIME
    asked = {requirement.name: requirement for requirement in NEEDED}
    for name, fix in (("onnxruntime", doctor._RUNTIME_FIX), ("onnxruntime-genai", doctor._GENAI_FIX)):
        assert Requirement(fix.split('"')[1]) == asked[name]


def test_olives_versions_are_those_of_its_environment() -> None:
    for name, version in re.findall(r"([\w-]+)==([\d.]+)", doctor._OLIVE_FIX):
        assert OLIVE[name] == version
    assert OLIVE["torch"] == CONSTRAINTS["torch"]
    assert f"onnxruntime-genai {OLIVE['onnxruntime-genai']} behind it" in Path(olive.__file__).read_text("utf-8")


def test_the_page_of_versions_names_the_same() -> None:
    runtimes = f"onnxruntime {CONSTRAINTS['onnxruntime']}, onnxruntime-genai {CONSTRAINTS['onnxruntime-genai']}"
    assert f"| {runtimes} | works; what Edgeship is tested with |" in PAGE
    assert set(re.findall(r"foundry-local-sdk (\d[\d.]*)", PAGE)) == {CONSTRAINTS["foundry-local-sdk"]}
    assert f"Any CPU build of PyTorch {CONSTRAINTS['torch']} will do" in PAGE
    [beside] = re.findall(r"\| (.+) \| work beside them \|", PAGE)
    for name, version in (each.split(" ") for each in beside.split(", ")):
        assert f"{CONSTRAINTS[name]}.".startswith(f"{version}.")
    assert set(re.findall(r"olive-ai (\d[\d.]*)", PAGE)) == {OLIVE["olive-ai"]}
    assert f"to {OLIVE['onnxruntime-genai']} and onnxruntime {OLIVE['onnxruntime']} | works" in PAGE
