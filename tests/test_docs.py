"""What the documentation says is what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import typer.main
import yaml

from edgeship.checkpoint.families import FAMILIES

ROOT = Path(__file__).parent.parent


def generator() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: page() for name, page in module.PAGES.items()}


@pytest.mark.parametrize("name", ["commands.md", "errors.md", "families.md", "validate.md"])
def test_generated_pages_are_fresh(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == generator()[name], "run `make docs`"


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_names_the_families_that_are_streamed() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = re.search(r"It knows (.+?), each compared with transformers", text)
    assert said, "the README says which families the streaming builder knows"
    named: list[str] = []
    for word in re.split(r",? and |, ", said[1]):
        # "Qwen 2 and 3" are two families.
        named.append(word if not re.fullmatch(r"[\d.]+", word) else f"{named[-1].rsplit(' ', 1)[0]} {word}")
    titles = (family.title for family in FAMILIES.values())
    assert set(named) == {title for titled in titles for title in titled.split(" and ")}


def test_the_pipelines_of_the_release_gate_can_be_run(tmp_path: Path) -> None:
    from edgeship.cli.app import app
    from edgeship.validate.checks import CHECKS
    from edgeship.validate.gate import read_gate

    text = (ROOT / "docs" / "validate.md").read_text(encoding="utf-8")
    pipelines = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    assert [next(iter(pipeline)) for pipeline in pipelines] == ["jobs", "gate"]
    command = typer.main.get_command(app).commands["validate"]  # type: ignore[attr-defined]
    known = {name for option in command.params for name in option.opts}
    lines = [line for line in text.splitlines() if re.match(r"\s*(- run: |- )?edgeship validate ", line)]
    assert len(lines) > 5
    assert set(re.findall(r" (--[a-z-]+)", " ".join(lines))) - known <= {"--replay"}
    (gate,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "gate.toml").write_text(gate, encoding="utf-8")
    assert read_gate(tmp_path / "gate.toml", CHECKS).off.keys() == {"leaks"}


def test_version_is_in_the_changelog() -> None:
    from edgeship import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
