from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeship.engine.api import Sampling
from edgeship.engine.config import read_config
from edgeship.errors import EngineFailed
from tests import checkpoints

MODEL = {"context_length": 2000, "vocab_size": 384, "eos_token_id": [2, 0]}
SEARCH = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1, "max_length": 40}
NEUTRAL = Sampling(
    temperature=0.0,
    top_p=1.0,
    top_k=0,
    min_p=0.0,
    repetition_penalty=1.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
)


def read(folder: Path, model: object, **rest: Any) -> Any:
    checkpoints.write_json(folder / "genai_config.json", {"model": model, **rest})
    return read_config(folder)


def test_defaults_are_the_packages(tmp_path: Path) -> None:
    found = read(tmp_path, MODEL, search=SEARCH)
    assert found.defaults == Sampling(
        temperature=0.7,
        top_p=0.9,
        top_k=50,
        min_p=0.0,
        repetition_penalty=1.1,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        max_tokens=40,
    )
    assert read(tmp_path, MODEL, search={"do_sample": False, "temperature": 0.7}).defaults == NEUTRAL
    assert read(tmp_path, MODEL).defaults == NEUTRAL


def test_what_ends_an_answer(tmp_path: Path) -> None:
    assert read(tmp_path, MODEL).end_ids == {0, 2}
    assert read(tmp_path, MODEL | {"eos_token_id": 7}).end_ids == {7}


def test_the_provider(tmp_path: Path) -> None:
    def provider(*options: dict[str, Any]) -> str:
        session = {"provider_options": list(options)}
        return str(read(tmp_path, MODEL | {"decoder": {"session_options": session}}).provider)

    assert provider() == read(tmp_path, MODEL).provider == "cpu"
    assert provider({"cuda": {}}) == "cuda"
    assert provider({"DmlExecutionProvider": {}}, {"cpu": {}}) == "dml"


def test_no_package(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="this is no package") as caught:
        read_config(tmp_path / "nowhere")
    assert caught.value.where == str(tmp_path / "nowhere")


@pytest.mark.parametrize("model", [None, [], {"context_length": 10}, {"context_length": 0, "vocab_size": 5}])
def test_a_config_without_what_we_need(tmp_path: Path, model: object) -> None:
    with pytest.raises(EngineFailed, match=r"genai_config\.json has no usable model\.(context_length|vocab_size)"):
        read(tmp_path, model)
