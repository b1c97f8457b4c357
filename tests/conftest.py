"""Fixtures for all tests. No test can reach the real home, cache or config: every one gets its own."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is such a process for each core already. Read when numpy is imported first.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"

from edgeship import settings as settings_module
from edgeship.settings import Settings
from tests import checkpoints, families

ROOT = Path(__file__).parent.parent
_HOMES = itertools.count()

# How long an example takes depends on what else the machine does, and is no reason to fail.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure() -> None:
    """Ctrl-C is heard: shells have it ignored by what runs in the background, and our children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of ours."""
    parser.addoption("--aarch64", action="store_true", help="also ship the example on an emulated aarch64, in minutes")


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """What a test asks to be logged is not asked of the next one."""
    ours = logging.getLogger("edgeship")
    level, handlers = ours.level, list(ours.handlers)
    yield
    ours.setLevel(level)
    ours.handlers[:] = handlers


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for each test, and no way out to a model hub."""
    # Not by `mktemp`, which looks through all folders of all tests so far.
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(_HOMES))
    home.mkdir(parents=True)
    for key in (
        "EDGESHIP_CACHE_DIR",
        "EDGESHIP_LOG_LEVEL",
        "EDGESHIP_THREADS",
        "EDGESHIP_MEMORY_BYTES",
        "EDGESHIP_FOUNDRY_APP",
    ):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("EDGESHIP_FOUNDRY_CACHE_DIR", str(home / "foundry"))
    monkeypatch.setenv("EDGESHIP_HOME", str(home))
    monkeypatch.setenv("EDGESHIP_CONFIG", str(home / "config.toml"))
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Children of ours do not look into their working folder for modules, and some run `tests.scripted`.
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    return home


@pytest.fixture
def settings(own_home: Path) -> Settings:
    """The settings of the test's own home."""
    del own_home
    return settings_module.resolve()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A tiny Qwen2 checkpoint that the test may damage."""
    return checkpoints.make_checkpoint(tmp_path / "tiny")


@pytest.fixture
def tiny_adapter(tmp_path: Path) -> Path:
    """A LoRA adapter that fits `tiny`."""
    return checkpoints.make_adapter(tmp_path / "tiny-adapter")


@pytest.fixture(scope="session")
def shelf() -> dict[str, families.Made]:
    """Cases of families that a test has made already."""
    return {}


@pytest.fixture(params=[case for case in families.CASES if not case.brief], ids=lambda case: case.name)
def made(
    request: pytest.FixtureRequest, shelf: dict[str, families.Made], tmp_path_factory: pytest.TempPathFactory
) -> families.Made:
    """Every family's own cases, each made once for all tests."""
    return _from(shelf, request.param, tmp_path_factory)


@pytest.fixture(params=families.ROUNDED, ids=lambda case: case.name)
def rounded_made(
    request: pytest.FixtureRequest, shelf: dict[str, families.Made], tmp_path_factory: pytest.TempPathFactory
) -> families.Made:
    """A few cases of each family."""
    return _from(shelf, request.param, tmp_path_factory)


@pytest.fixture(params=families.CASES, ids=lambda case: case.name)
def any_made(
    request: pytest.FixtureRequest, shelf: dict[str, families.Made], tmp_path_factory: pytest.TempPathFactory
) -> families.Made:
    """Every family's cases, those of which FP32 alone is compared as well."""
    return _from(shelf, request.param, tmp_path_factory)


def _from(
    shelf: dict[str, families.Made], case: families.Case, tmp_path_factory: pytest.TempPathFactory
) -> families.Made:
    if case.name not in shelf:
        shelf[case.name] = families.make(case, tmp_path_factory.mktemp(case.name))
    return shelf[case.name]


def _build(folder: Path, precision: str, *options: str) -> Path:
    checkpoint = checkpoints.make_checkpoint(folder / "checkpoint")
    package = folder / "package"
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint), "-o", str(package)]
    command += ["-p", precision, "-e", "cpu", "-c", str(folder / "cache")]
    if options:
        command += ["--extra_options", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (package / "genai_config.json").is_file(), done.stderr
    return package


@pytest.fixture(scope="session")
def int4_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INT4, and logits of the last token only."""
    return _build(tmp_path_factory.mktemp("int4"), "int4", "prune_lm_head=true")


@pytest.fixture(scope="session")
def fp32_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FP32, and logits of every token."""
    return _build(tmp_path_factory.mktemp("fp32"), "fp32")


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example checkpoint as an INT4 package called triage."""
    from edgeship import builder as builds
    from edgeship.builder.packaging import write_package
    from edgeship.checkpoint import open_checkpoint
    from edgeship.recipe import Precision, Recipe

    root = tmp_path_factory.mktemp("example")
    checkpoint = open_checkpoint(str(ROOT / "examples" / "triage" / "checkpoint"))
    settings = Settings(home=root, cache_dir=root / "models", config_file=root / "config.toml")
    built = builds.build(checkpoint, Recipe(precision=Precision.INT4), settings)
    return write_package(built, checkpoint, root / "triage").folder
