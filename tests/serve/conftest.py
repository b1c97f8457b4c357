"""A small package, whose tokenizer is a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeship.engine.text import TextCodec
from tests.packages import make_package


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's."""
    return make_package(tmp_path_factory.mktemp("bigram") / "bigram").folder


@pytest.fixture(scope="session")
def codec(folder: Path) -> TextCodec:
    """Its tokenizer."""
    return TextCodec(folder)
