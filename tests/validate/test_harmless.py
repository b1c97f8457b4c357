"""A package holds data of known kinds, each file what its name says, and stays in its folder."""

from __future__ import annotations

import gzip
import importlib.util
import io
import lzma
import pickle
import random
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeship.progress import silent
from edgeship.validate.integrity import code, harmless, whole
from edgeship.validate.integrity.looked_at import LookedAt
from edgeship.validate.verdict import Finding


def saved(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.so.1", b"x"),
        ("A.DLL", b"x"),
        ("weights.pkl", b"x"),
        ("notes", b"#!/bin/sh\necho\n"),
        ("notes", b"MZ" + bytes(58) + b"\x40\0\0\0" + b"PE\0\0"),
        ("notes", b"\xcf\xfa\xed\xfe" + bytes(9)),
        ("notes", b"#! /usr/bin/env python3\n\0"),
        ("notes", b"\xef\xbb\xbf#!/bin/sh\n"),
        ("notes", importlib.util.MAGIC_NUMBER + bytes(12)),
        (".hidden", b"\x7fELF" + bytes(9)),
        (".cache/notes", b"#!/bin/sh\n"),
        ("start.lnk", b"x"),
        ("module.psm1", b"x"),
        ("pytorch_model.bin", b"PK\x03\x04" + bytes(26) + b"archive/data.pkl"),
        ("pytorch_model.bin", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"and more"),
        ("notes", gzip.compress(b"x", mtime=0)),
        ("notes", bytes(257) + b"ustar\0"),
        ("weights", b"\x89HDF\r\n\x1a\n" + bytes(9)),
        ("weights", bytes(2048) + b"\x89HDF\r\n\x1a\n" + bytes(9)),
        ("weights", b"ZF0x1a             x"),
        *(("weights", zlib.compress(pickle.dumps(Path("x")), level)) for level in (1, 3, 6, 9)),
        ("weights", zlib.compress(pickle.dumps(bytes(10_000_000)))),
        ("weights", zlib.compress(random.Random(0).randbytes(100_000))),
        ("weights", lzma.compress(pickle.dumps(Path("x")), lzma.FORMAT_ALONE, preset=3)),
        *(("weights", pickle.dumps(Path("x"), protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        *(("weights", pickle.dumps(b"x" * 100_000, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
        ("weights", b"\x80\x02T\xff\xff\0\0" + b"x" * 70_000),
        ("array", saved(np.array([{}]))),
    ],
)
def test_code_is_known_by_its_name_or_first_bytes(name: str, content: bytes, example: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(example, tmp_path / "package")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    found = {one.name: one for one in harmless.findings(LookedAt(folder))}
    assert found["no-code"].told.startswith(f"{name} is ")


@pytest.mark.parametrize(
    "content",
    [
        b"MZ" + bytes(400),
        b"#!\0\1",
        b"\x7fEL",
        b"",
        b"\x80\x02" + bytes(400),
        b"\x80\x04\x4e\xff",
        b"\x80",
        b"PK",
        b"cat\ndog\n.",
        b"#! a heading\n",
        b"x^2 + y^2 = z^2\n",
        b"x^2",
        *(mark + random.Random(0).randbytes(100_000) for mark in (b"x\x01", b"x^", b"x\x9c", b"x\xda")),
        b"x\x9c" + bytes(100_000),
        zlib.compress(b"a text of some length")[:-6],
        b"]\0\0 and more",
        b"\x89PNG\r\n\x1a\n",
        saved(np.zeros(3)),
    ],
)
def test_weights_that_begin_like_a_program_by_chance_are_none(content: bytes) -> None:
    assert code.kind_of("weights.bin", content) is None


def of_files(example: Path, folder: Path, files: dict[str, bytes]) -> Finding:
    """What is found of code in a copy of the example with these files besides."""
    shutil.copytree(example, folder)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {one.name: one for one in harmless.findings(LookedAt(folder))}["no-code"]


LONG_PICKLE = b"S'" + b"a" * 70_000 + b"'\n0cos\nsystem\n(S'echo PWNED'\ntR."
STRUCTURED = saved(np.array([({},)], [("a", "O")]))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (".hidden", LONG_PICKLE, "of no kind that packages hold: take it out"),
        (".hidden", b"\x80\x04" + LONG_PICKLE, "of no kind"),
        ("notes.txt", LONG_PICKLE, "a pickle"),
        ("array", STRUCTURED, "a pickle"),
        ("old.tar.txt", b"name" + bytes(2044), "no text: it holds the control character"),
        ("archive", b"leading" + b"PK\x03\x04", "of no kind"),
        ("archive.Z", b"\x1f\x9d\x90", "of no kind"),
        ("archive", b"LZIP\1", "an archive"),
        ("archive", b"MSCF\0", "an archive"),
        ("Makefile", b"all:\n\trm -rf /\n", "of no kind"),
        ("modeling", b"import os\n", "of no kind"),
        ("notes.md", "\ufeff#!/bin/sh\n".encode("utf-16-le"), "no text in UTF-8"),
        ("more.json", b"import os\n", "no JSON: "),
        ("more.jsonl", b"{}\nimport os\n", "no JSON in each line"),
        ("picture.png", b"\x89PNG\r\n\x1a\n and PK", "no picture"),
        ("tokenizer.model", b"\x0a\xff\xff\x03\xff", "neither a vocabulary of SentencePiece nor a text"),
        ("weights.data", bytes(8), "of no kind"),
        ("a.onnx_adapter", bytes(8), "no adapter"),
        (".DS_Store", bytes(8), "nothing that macOS keeps"),
    ],
)
def test_what_no_package_holds_is_told(name: str, content: bytes, told: str, example: Path, tmp_path: Path) -> None:
    found = of_files(example, tmp_path / "package", {name: content})
    assert (found.outcome, found.told.startswith(f"{name} is {told}")) == ("fail", True), found.told


def test_what_packages_of_any_tool_hold_is_no_finding(example: Path, tmp_path: Path) -> None:
    files = {
        "LICENSE": "Copyright \u00a9\n".encode(),
        "USE_POLICY.md": b"# Use\n",
        "processor_config.json": b"\xef\xbb\xbf{}\n",
        "merges.txt": b"#version: 0.2\na b\n",
        "tokenizer.model": b"\x0a\x03abc\x12\x00",
        "original/tokenizer.model": b"IQ== 0\n",
        "picture.png": b"\x89PNG\r\n\x1a\n...IEND\xae\x42\x60\x82",
        "tools.onnx_adapter": b"\0\0\0\0TORT",
        ".DS_Store": b"\0\0\0\x01Bud1",
        ".gitattributes": b"*.onnx filter=lfs\n",
        ".cache/huggingface/download/model.onnx.metadata": b"abc\n1.5\n",
        ".cache/huggingface/download/model.onnx.lock": b"",
    }
    found = of_files(example, tmp_path / "package", files)
    assert found.outcome == "pass", found.told


def test_folders_in_a_thousand_folders_are_told(example: Path, tmp_path: Path) -> None:
    folder = inner = shutil.copytree(example, tmp_path / "package")
    for _ in range(1_200):
        inner /= "a"
        try:
            inner.mkdir()
        except OSError:  # a path of Windows ends earlier
            break
    found = {one.name: one for one in (*harmless.findings(LookedAt(folder)), *whole.findings(LookedAt(folder), silent))}
    assert "it is a folder, and no regular file" in found["stays-in-folder"].told
    assert "a/a is not in the manifest" in found["manifest-complete"].told
    for path in [inner, *inner.parents]:
        if path == folder:
            break
        path.rmdir()


def test_what_git_keeps_is_not_looked_at_and_that_is_told(example: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(example, tmp_path / "package")
    (folder / ".git" / "hooks").mkdir(parents=True)
    (folder / ".git" / "hooks" / "update.sample").write_text("#!/bin/sh\n")
    (folder / ".gitattributes").write_text("*.onnx filter=lfs\n")
    found = list(harmless.findings(LookedAt(folder)))
    assert {one.outcome for one in found} == {"pass"}
    assert found[0].told.endswith("What Git keeps in .git was not looked at.")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such mark")
def test_a_file_that_is_marked_as_executable_is_told_unless_all_are(example: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(example, tmp_path / "package")
    (folder / "tokenizer.json").chmod(0o755)
    found = next(harmless.findings(LookedAt(folder)))
    assert (found.outcome, found.told) == ("fail", "tokenizer.json is marked as executable, which data need not be.")
    for path in folder.iterdir():
        path.chmod(0o777)
    found = next(harmless.findings(LookedAt(folder)))
    assert (found.outcome, "Each is marked as executable" in found.told) == ("pass", True)
    (folder / "notes").write_text("#!/bin/sh\n")
    (folder / "notes").chmod(0o777)
    assert next(harmless.findings(LookedAt(folder))).told == "notes is a script by its first line."


def test_a_hidden_link_that_leads_out_is_seen(example: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(example, tmp_path / "package")
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    try:
        (folder / ".link").symlink_to(tmp_path / "secret")
    except OSError:
        pytest.skip("links need a right on Windows")
    found = {one.name: one for one in harmless.findings(LookedAt(folder))}
    assert found["stays-in-folder"].told.startswith(".link: it is a link that leads out of its folder")


@pytest.mark.parametrize(("cut", "told"), [(None, "is missing"), (-1, "and that ends at")])
def test_weights_that_a_graph_needs_and_that_are_not_there(
    cut: int | None, told: str, example: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(example, tmp_path / "package")
    path = folder / "model.onnx.data"
    content = path.read_bytes()
    path.unlink()
    if cut is not None:
        path.write_bytes(content[:cut])
    found = {one.name: one for one in harmless.findings(LookedAt(folder))}
    assert told in found["stays-in-folder"].told
