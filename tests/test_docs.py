"""What the documentation says is what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from edgeship.checkpoint.families import FAMILIES

ROOT = Path(__file__).parent.parent


def generator() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: page() for name, page in module.PAGES.items()}


@pytest.mark.parametrize("name", ["commands.md", "errors.md", "families.md"])
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
    titles = (family.title for family in FAMILIES.values() if family.traits is not None)
    assert set(named) == {title for titled in titles for title in titled.split(" and ")}


def test_version_is_in_the_changelog() -> None:
    from edgeship import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
