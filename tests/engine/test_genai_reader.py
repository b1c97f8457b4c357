"""onnxruntime-genai's tokenizer in a process of its own reads as it does in this one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgeship.engine.decoders.genai import GenaiTokenizer
from edgeship.engine.genai_reader import GenaiReader
from edgeship.errors import EdgeshipError, PackageRefused
from tests import checkpoints
from tests.packages import config_of

CONVERSATION = [{"role": "user", "content": "h\u00e9llo\n\N{GRINNING FACE}"}]


@pytest.mark.slow
def test_it_reads_as_in_this_process_also_where_the_folder_is_gone(int4_folder: Path, tmp_path: Path) -> None:
    here = GenaiTokenizer(config_of(int4_folder))
    with GenaiReader() as reader:
        reader.open(shutil.copytree(int4_folder, tmp_path / "copy"))
        shutil.rmtree(tmp_path / "copy")
        assert reader.chat(CONVERSATION) == here.chat(CONVERSATION)
        assert reader.encode("hello world") == here.encode("hello world")


@pytest.mark.slow
def test_after_a_folder_that_is_refused_another_can_be_opened(int4_folder: Path, tmp_path: Path) -> None:
    document = config_of(int4_folder).document
    decoder = {**document["model"]["decoder"], "custom_ops_library": "x"}
    checkpoints.write_json(
        tmp_path / "genai_config.json", {**document, "model": {**document["model"], "decoder": decoder}}
    )
    with GenaiReader() as reader:
        with pytest.raises(PackageRefused):
            reader.open(tmp_path)
        reader.open(int4_folder)
        assert reader.encode("hello")


def test_a_process_that_is_gone_is_an_error_each_time(tmp_path: Path) -> None:
    reader = GenaiReader()
    reader.close()
    for _ in range(2):
        with pytest.raises(EdgeshipError, match="onnxruntime-genai's process"):
            reader.open(tmp_path)
