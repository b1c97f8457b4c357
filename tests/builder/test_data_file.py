"""The data file: what it holds, and that a killed run is continued and never trusted blindly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.builder import data_file
from edgeship.builder.feedback import error_factors, quantize_with_feedback
from edgeship.builder.layout import Layout, Matrix, Part, Stack, Vector, lay_out
from edgeship.builder.quantize import Scheme, quantize
from edgeship.builder.weights import Weights
from edgeship.errors import PrecisionUnsupported
from tests.waiting import until

ROWS, WIDTH = 24, 64


class Pretended(Weights):
    """Tensors in memory that count how often they are read, and can fail."""

    def __init__(self, tensors: Mapping[str, np.ndarray], fail_at: int = -1) -> None:
        self.tensors, self.fail_at = tensors, fail_at
        self.names: list[str] = []

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Any:
        self.names.append(name)
        if len(self.names) == self.fail_at:
            raise KeyboardInterrupt
        return self.tensors[name][start:stop].copy()

    def stacked(self, name: str, start: int, stop: int) -> Any:
        return self.rows(name, start, stop)


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {f"m{index}": rng.standard_normal((ROWS, WIDTH)).astype(np.float32) for index in range(4)}
    return made | {"v": rng.standard_normal(10).astype(np.float32)}


def layout() -> Layout:
    weights: list[Matrix | Vector] = [Matrix("stacked", (Part("m0", 0, ROWS), Part("m1", 0, 8)), WIDTH)]
    weights += [Matrix("half", (Part("m2", 12, ROWS),), WIDTH), Vector("norm", (Part("v", 0, 10),), 1.0)]
    weights.append(Matrix("plain", (Part("m3", 0, ROWS),), WIDTH))
    blocks = Scheme(4, 32, False, "rtn")
    return lay_out(weights, {"stacked": blocks, "half": Scheme(8, 16, True, "rtn"), "plain": "float16"})


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_file, "CHUNK_ELEMENTS", 5 * WIDTH)


def written(folder: Path, made: Weights, shares: int = 1) -> bytes:
    path = folder / "model.onnx.data"
    for share in reversed(range(shares)):
        data_file.write(layout(), made, path, share=(share, shares))
    data_file.finish(layout(), path)
    return path.read_bytes()


def listed(folder: Path) -> list[str]:
    """The pieces that the journals list."""
    lines = [line for journal in folder.glob(data_file.JOURNALS) for line in journal.read_text().splitlines()]
    return [json.loads(line)[0] for line in lines]


def test_every_weight_lies_where_the_layout_says(tmp_path: Path) -> None:
    found, made = written(tmp_path, Pretended(tensors())), tensors()
    placed = layout().weights
    assert len(found) == layout().size_bytes

    def stored(name: str, index: int) -> Any:
        blob = placed[name].blobs[index]
        return np.frombuffer(found, blob.dtype, int(np.prod(blob.shape)), blob.offset).reshape(blob.shape)

    expected = quantize(np.concatenate([made["m0"], made["m1"][:8]]), Scheme(4, 32, False, "rtn"))
    assert np.array_equal(stored("stacked", 0), expected.packed)
    assert np.array_equal(stored("stacked", 1), expected.scales)
    assert expected.zero_points is not None
    assert np.array_equal(stored("stacked", 2), expected.zero_points)
    assert np.array_equal(stored("half", 0), quantize(made["m2"][12:], Scheme(8, 16, True, "rtn")).packed)
    assert np.array_equal(stored("norm", 0), made["v"] + 1)
    assert np.array_equal(stored("plain", 0), made["m3"].astype(np.float16))
    assert not list(tmp_path.glob(data_file.JOURNALS))


def test_rows_of_two_tensors_lie_by_turns(tmp_path: Path) -> None:
    """In pieces of an odd number of rows, too."""
    parts = (Part("m0", 0, ROWS, ("m1", 0)), Part("m2", 4, 11, ("m2", 13)))
    experts = Matrix("experts", parts, WIDTH, stack=Stack(2, 16))
    made, placed = tensors(), lay_out([experts], {"experts": "float32"})
    path = tmp_path / "model.onnx.data"
    data_file.write(placed, Pretended(made), path)
    data_file.finish(placed, path)
    [blob] = placed.weights["experts"].blobs
    assert blob.shape == (2, ROWS + 7, WIDTH)
    pairs = [*zip(made["m0"], made["m1"], strict=True), *zip(made["m2"][4:11], made["m2"][13:], strict=False)]
    assert np.array_equal(np.frombuffer(path.read_bytes(), np.float32).reshape(-1, 2, WIDTH), np.array(pairs))


def test_shares_make_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    assert written(tmp_path / "one", Pretended(tensors())) == written(tmp_path / "three", Pretended(tensors()), 3)


@pytest.mark.parametrize("shares", [1, 2])
@pytest.mark.parametrize("fail_at", [1, 4, 8, 11, 14])
def test_an_interrupted_run_goes_on(tmp_path: Path, fail_at: int, shares: int) -> None:
    (tmp_path / "whole").mkdir()
    first = Pretended(tensors())
    whole = written(tmp_path / "whole", first)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, Pretended(tensors(), fail_at), shares)
    done = listed(tmp_path)
    assert len(done) == fail_at - 1
    second = Pretended(tensors())
    assert written(tmp_path, second) == whole
    assert len(second.names) == len(first.names) - len(done)


def test_a_piece_that_was_damaged_since_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = written(tmp_path / "whole", Pretended(tensors()))
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, Pretended(tensors(), 12))
    path = tmp_path / "model.onnx.data"
    damaged = bytearray(path.read_bytes())
    damaged[5] ^= 1
    path.write_bytes(damaged)
    with next(tmp_path.glob(data_file.JOURNALS)).open("a") as journal:
        journal.write('["plain", 12')  # a line that was cut off
    with next(tmp_path.glob(data_file.JOURNALS)).open("ab") as journal:
        journal.write(b"\n5\n[[1], 2]\n" + b"[" * 5000 + b'\n["plain\xff')  # what no run of ours writes
    second = Pretended(tensors())
    assert written(tmp_path, second) == whole
    assert second.names.count("m0") == 1


def test_what_fp16_cannot_hold_is_named(tmp_path: Path) -> None:
    wide = tensors()
    wide["m3"][3, 4] = 70_000.0
    with pytest.raises(PrecisionUnsupported, match=r"m3.*70000"):
        written(tmp_path, Pretended(wide))


HELD_RUN = """
import sys
from pathlib import Path
from tests.builder import test_data_file as here
from edgeship.builder import data_file
data_file.CHUNK_ELEMENTS = 5 * here.WIDTH
class Held(here.Pretended):
    def rows(self, *arguments):
        if len(self.names) == 3:
            sys.stdin.read()
        return super().rows(*arguments)
here.written(Path(sys.argv[1]), Held(here.tensors()))
"""


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = written(tmp_path / "whole", Pretended(tensors()))
    root = Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, "-c", HELD_RUN, str(tmp_path)], cwd=root, stdin=subprocess.PIPE)
    until(lambda: bool(listed(tmp_path)))
    child.kill()
    child.communicate()
    assert child.returncode != 0
    done = listed(tmp_path)
    assert done
    second = Pretended(tensors())
    assert written(tmp_path, second) == whole
    assert second.names.count("m0") < 5


@pytest.mark.parametrize("symmetric", [True, False])
def test_parts_of_the_width_hand_on_errors_by_themselves(tmp_path: Path, symmetric: bool) -> None:
    rng, scheme = np.random.default_rng(3), Scheme(4, 16, symmetric)
    inputs = rng.standard_normal((200, 1)) + rng.standard_normal((200, WIDTH))
    parts = [slice(0, 32), slice(32, WIDTH)]
    guide = [error_factors((inputs[:, part].T @ inputs[:, part]).astype(np.float32)) for part in parts]
    placed = lay_out([Matrix("m", (Part("m0", 0, ROWS),), WIDTH)], {"m": scheme})
    path = tmp_path / "model.onnx.data"
    data_file.write(placed, Pretended(tensors()), path, guidance={"m": guide})
    data_file.finish(placed, path)
    data = path.read_bytes()
    found = [np.frombuffer(data, blob.dtype, blob.nbytes // np.dtype(blob.dtype).itemsize, blob.offset)
             .reshape(blob.shape) for blob in placed.weights["m"].blobs]  # fmt: skip
    for start in range(0, ROWS, 5):
        rows = tensors()["m0"][start : start + 5]
        made = [
            quantize_with_feedback(rows[:, part], factors, scheme) for part, factors in zip(parts, guide, strict=True)
        ]
        expected = [[each.packed, each.scales, each.zero_points] for each in made]
        for blob, first, second in zip(found, *expected, strict=False):
            assert first is not None
            assert second is not None
            assert np.array_equal(blob[start : start + 5], np.concatenate([first, second], axis=1))
