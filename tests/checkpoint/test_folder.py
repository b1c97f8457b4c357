"""A checkpoint's and an adapter's files are regular ones of their own folder, before anyone reads or copies them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgeship.checkpoint import open_checkpoint
from edgeship.checkpoint.adapter import open_adapter
from edgeship.errors import AdapterInvalid, CheckpointInvalid


@pytest.mark.parametrize("name", ["merges.txt", "vocab.json", "chat_template.jinja", "README.md", "LICENSE"])
def test_a_link_that_leads_out_is_refused(name: str, tiny: Path) -> None:
    (tiny.parent / "secret").write_text("secret")
    (tiny / name).unlink(missing_ok=True)
    (tiny / name).symlink_to(tiny.parent / "secret")
    with pytest.raises(CheckpointInvalid, match=rf"{name} cannot be read: it is a link that leads out .*secret"):
        open_checkpoint(str(tiny))


def test_links_inside_the_folder_and_to_nothing_are_good(tiny: Path) -> None:
    (tiny / "tokenizer.json").rename(tiny / "tokenizer-1.json")
    (tiny / "tokenizer.json").symlink_to("tokenizer-1.json")
    (tiny / "LICENSE").symlink_to("gone")
    (tiny / "LICENSES").mkdir()
    (tiny / "other.bin.gz").symlink_to(tiny.parent)
    assert open_checkpoint(str(tiny)).parameters


def test_the_hubs_cache_is_read_as_it_is(tiny: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "beef"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(tiny.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert open_checkpoint(str(snapshot)).digest


@pytest.mark.skipif(os.name != "posix", reason="pipes that have a path")
@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "model.safetensors", "preprocessor_config.json"])
def test_a_pipe_is_refused_and_not_waited_for(name: str, tiny: Path, tiny_adapter: Path) -> None:
    for folder in (tiny, tiny_adapter):
        (folder / name).unlink(missing_ok=True)
        if sys.platform != "win32":
            os.mkfifo(folder / name)
    with pytest.raises(AdapterInvalid, match=f"{name} cannot be read: it is a pipe"):
        open_adapter(tiny_adapter)
    with pytest.raises(CheckpointInvalid, match=f"{name} cannot be read: it is a pipe"):
        open_checkpoint(str(tiny))
