from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from edgeship.checkpoint.safetensors_file import (
    StoredTensor,
    find_absurd,
    raw_bits,
    read_bit_columns,
    read_bits,
    read_bytes,
    read_columns,
    read_float32,
    read_header,
    read_rows,
    same_values,
)
from edgeship.errors import CheckpointInvalid, WeightsDamaged


def write(path: Path, header: object, data: bytes = b"") -> Path:
    """A file with this header, sane or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(begin: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def store(path: Path, array: np.ndarray) -> StoredTensor:
    save_file({"w": array}, path)
    return read_header(path)["w"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 7)])
def test_numbers_come_back_as_they_were_saved(tmp_path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32).astype(dtype)
    save_file({"first": np.arange(3, dtype=np.uint8), "w": array}, tmp_path / "a.safetensors")
    tensor = read_header(tmp_path / "a.safetensors")["w"]
    assert (tensor.shape, tensor.count, tensor.nbytes) == (shape, array.size, array.nbytes)
    read = read_float32(tensor)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array.astype(np.float32))
    read[...] = 1  # its own memory, not the file's


@settings(max_examples=30)
@given(hnp.arrays(np.uint16, st.integers(1, 40)))
def test_every_bfloat16_is_read_exactly(tmp_path_factory: pytest.TempPathFactory, bits: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("bf16") / "a.safetensors"
    read = read_float32(store(path, bits.view(ml_dtypes.bfloat16)))
    np.testing.assert_array_equal(read.view(np.uint32), bits.astype(np.uint32) << 16)


@settings(max_examples=40)
@given(st.data())
def test_rows_are_those_of_the_whole(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float16, np.float32, np.float64, ml_dtypes.bfloat16]))
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5))
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32).astype(dtype)
    path = tmp_path_factory.mktemp("rows") / "a.safetensors"
    save_file({"first": np.arange(3, dtype=np.uint8), "w": array}, path)
    start = data.draw(st.integers(0, shape[0]))
    stop = data.draw(st.integers(start, shape[0]))
    read = read_rows(read_header(path)["w"], start, stop)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array[start:stop].astype(np.float32))
    read[...] = 1  # its own memory
    assert not isinstance(read.base, np.memmap)


def test_a_scalar_has_one_row(tmp_path: Path) -> None:
    assert read_rows(store(tmp_path / "a.safetensors", np.array(3.0, np.float32))) == 3.0


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 5), (3, 2)])
def test_rows_that_are_not_there(tmp_path: Path, start: int, stop: int) -> None:
    tensor = store(tmp_path / "a.safetensors", np.ones((4, 2), np.float32))
    with pytest.raises(IndexError, match="of w, which has 4"):
        read_rows(tensor, start, stop)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_bad_number_is_told_with_its_place_in_the_tensor(tmp_path: Path, dtype: Any, value: float) -> None:
    array = np.ones((4, 3), np.float32)
    array[2, 1] = value
    tensor = store(tmp_path / "a.safetensors", array.astype(dtype))
    assert read_rows(tensor, 0, 2).sum() == 6
    with pytest.raises(WeightsDamaged, match=rf"tensor w holds {value:g} at element 7: no trained weight"):
        read_rows(tensor, 1, 3)
    found = find_absurd(tensor)
    assert found is not None
    assert found[0] == 7


def test_bad_numbers_are_found_however_far_they_lie(tmp_path: Path) -> None:
    array = np.zeros(200_000, np.float32)
    array[150_000] = 2e5
    with pytest.raises(WeightsDamaged, match="holds 200000 at element 150000"):
        read_rows(store(tmp_path / "a.safetensors", array))


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    tensor = store(tmp_path / "a.safetensors", np.ones((4, 2), np.float32))
    tensor.path.write_bytes(tensor.path.read_bytes()[:-4])
    assert read_rows(tensor, 0, 3).shape == (3, 2)
    with pytest.raises(WeightsDamaged, match="it ends in tensor w"):
        read_rows(tensor, 3, 4)
    tensor.path.unlink()
    with pytest.raises(WeightsDamaged, match="tensor w cannot be read"):
        read_rows(tensor)
    with pytest.raises(WeightsDamaged, match="tensor w cannot be read"):
        read_bytes(tensor, 0, 4)


def test_tensors_with_the_same_numbers(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32)
    one = store(tmp_path / "a.safetensors", array)
    assert same_values(one, one)
    assert same_values(one, store(tmp_path / "b.safetensors", array))
    assert not same_values(one, store(tmp_path / "c.safetensors", array.reshape(2, 3)))
    assert not same_values(one, store(tmp_path / "d.safetensors", array.view(np.int32)))
    array[5] = 0
    assert not same_values(one, store(tmp_path / "e.safetensors", array))


def test_numbers_are_compared_and_not_how_they_are_stored(tmp_path: Path) -> None:
    array = np.linspace(-2, 2, 70_000).astype(np.float16).astype(np.float32)
    bits = (array.view(np.uint32) >> 16).astype(np.uint16)
    short = replace(store(tmp_path / "short.safetensors", bits), dtype="BF16")
    of_short = (bits.astype(np.uint32) << 16).view(np.float32)
    exact = store(tmp_path / "exact.safetensors", array)
    assert same_values(exact, store(tmp_path / "half.safetensors", array.astype(np.float16)))
    assert same_values(store(tmp_path / "double.safetensors", array.astype(np.float64)), exact)
    assert same_values(store(tmp_path / "widened.safetensors", of_short), short)
    assert not same_values(exact, short)  # rounded
    finer = array.astype(np.float64)
    finer[-1] += 1e-12  # nothing in float32
    assert not same_values(exact, store(tmp_path / "finer.safetensors", finer))


def test_types_without_plain_numbers_are_mapped_but_not_converted(tmp_path: Path) -> None:
    tensor = store(tmp_path / "a.safetensors", np.arange(6, dtype=np.int32).reshape(2, 3))
    np.testing.assert_array_equal(raw_bits(tensor), np.arange(6, dtype=np.uint32).reshape(2, 3))
    with pytest.raises(CheckpointInvalid, match="tensor w is stored as I32"):
        read_float32(tensor)
    with pytest.raises(CheckpointInvalid, match="tensor w is stored as I32"):
        read_rows(tensor)
    assert read_bytes(tensor, 4, 4) == (1).to_bytes(4, "little")
    assert find_absurd(tensor) is None


def test_types_of_less_than_a_byte_are_understood(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"w": entry(0, 3, [6], "F4")}, b"abc")
    assert raw_bits(read_header(path)["w"]).tobytes() == b"abc"


def test_a_mapped_tensor_cannot_be_written_to(tmp_path: Path) -> None:
    bits = raw_bits(store(tmp_path / "a.safetensors", np.ones(3, np.float32)))
    with pytest.raises(ValueError, match="read-only"):
        bits[0] = 1


DAMAGED_HEADERS = {
    "not JSON": (b"{'w'", b"", "not valid JSON"),
    "no object": ([1], b"", "no JSON object"),
    "the same name twice": (b'{"w": 1, "w": 2}', b"", "'w' is there twice"),
    "the last of many names twice": (
        b"{%s}" % b", ".join(b'"w%d": 1' % min(i, 99_998) for i in range(100_000)),
        b"",
        "'w99998' is there twice",
    ),
    "no offsets": ({"w": {"dtype": "F32", "shape": [1]}}, b"", "entry for tensor w"),
    "an entry that is no object": ({"w": 3}, b"", "entry for tensor w"),
    "a negative size": ({"w": entry(0, 4, [-1])}, b"1234", "entry for tensor w"),
    "a truth value as size": ({"w": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, b"1234", "tensor w"),
    "an unknown type": ({"w": entry(0, 4, dtype="F99")}, b"1234", "unknown type 'F99'"),
    "a shape of another size": ({"w": entry(0, 8, [3])}, b"12345678", r"tensor w F32\[3\] needs 12 bytes, not 8"),
    "a gap": ({"v": entry(0, 4), "w": entry(8, 12)}, bytes(12), "tensor w leaves a gap"),
    "an overlap": ({"v": entry(0, 8), "w": entry(4, 8)}, bytes(8), "tensor w overlaps"),
    "bytes too many": ({"w": entry(0, 4)}, bytes(7), "3 bytes follow"),
    "bytes too few": ({"v": entry(0, 4), "w": entry(4, 12)}, bytes(6), "truncated in tensor w"),
}


@pytest.mark.parametrize("case", DAMAGED_HEADERS)
def test_a_damaged_file_is_named_with_its_fault(tmp_path: Path, case: str) -> None:
    header, data, message = DAMAGED_HEADERS[case]
    path = write(tmp_path / "shard-3.safetensors", header, data)
    with pytest.raises(WeightsDamaged, match=message) as caught:
        read_header(path)
    assert "shard-3.safetensors" in caught.value.what
    assert caught.value.where == str(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64])
def test_a_file_without_a_header_length_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsDamaged, match="length of a header"):
        read_header(path)


def test_a_file_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"v": np.ones(4, np.float32), "w": np.ones(9, np.float16)}, path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsDamaged, match=r"a\.safetensors"):
            read_header(path)


def test_a_missing_file_and_a_git_lfs_pointer_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(WeightsDamaged, match=r"a\.safetensors is missing"):
        read_header(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    with pytest.raises(WeightsDamaged, match="Git LFS pointer") as caught:
        read_header(path)
    assert "git lfs pull" in (caught.value.hint or "")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -2e5])
def test_what_no_training_leaves_is_found_with_its_place(tmp_path: Path, dtype: Any, value: float) -> None:
    with np.errstate(over="ignore"):
        array = np.array([0.0, -0.0, 9e4 if dtype != np.float16 else 6e4, value, 1e30], np.float64).astype(dtype)
    found = find_absurd(store(tmp_path / "a.safetensors", array.reshape(1, 5)))
    assert found is not None
    assert found[0] == 3
    np.testing.assert_equal(found[1], float(array[3]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_sane_weights_are_left_alone(tmp_path: Path, dtype: Any) -> None:
    array = np.array([0.0, -0.0, 1e-30, -6e4, 6e4], np.float64).astype(dtype)
    assert find_absurd(store(tmp_path / "a.safetensors", array)) is None
    assert find_absurd(store(tmp_path / "b.safetensors", array[:0])) is None


def test_large_tensors_are_searched_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeship.checkpoint.safetensors_file._CHUNK", 10)
    array = np.zeros(37, np.float32)
    array[35] = np.inf
    assert find_absurd(store(tmp_path / "a.safetensors", array)) == (35, np.inf)


def test_columns_are_those_of_the_rows(tmp_path: Path) -> None:
    array = np.random.default_rng(1).normal(size=(7, 9)).astype(np.float16)
    tensor = store(tmp_path / "a.safetensors", array)
    for start, stop in ((0, 9), (2, 3), (4, 9), (5, 5)):
        np.testing.assert_array_equal(read_columns(tensor, start, stop), array[:, start:stop].astype(np.float32))
        np.testing.assert_array_equal(read_bit_columns(tensor, start, stop), array.view(np.uint16)[:, start:stop])
    np.testing.assert_array_equal(read_bits(tensor, 2, 4), array.view(np.uint16)[2:4])


def test_a_number_among_columns_is_named_by_its_place(tmp_path: Path) -> None:
    array = np.zeros((4, 6), np.float32)
    array[2, 3] = np.nan
    tensor = store(tmp_path / "a.safetensors", array)
    read_columns(tensor, 0, 3)
    with pytest.raises(WeightsDamaged, match="holds nan at element 15"):
        read_columns(tensor, 2, 5)


def test_a_file_that_ends_within_columns_names_the_tensor(tmp_path: Path) -> None:
    tensor = store(tmp_path / "a.safetensors", np.zeros((4, 6), np.float32))
    tensor.path.write_bytes(tensor.path.read_bytes()[:-8])
    read_columns(tensor, 0, 4)
    with pytest.raises(WeightsDamaged, match="it ends in tensor"):
        read_columns(tensor, 3, 6)
