"""Names, references, digests, and manifests that come from anywhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgeship.errors import FormatUnknown, NameInvalid, PackageDamaged
from edgeship.package.manifest import MANIFEST_NAME, Manifest, Package, altered, read, unlisted, verify, write
from edgeship.package.names import check_name, parse_ref, select
from edgeship.system.fields import shown
from edgeship.system.storage import FileDigest, digest_file

ALLOWED = "ABCXYZabcxyz0189._-"


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "context_tokens": 512,
        "checkpoint": {"source": "tiny", "architecture": "Qwen2ForCausalLM"},
        "recipe": {"precision": "int4"},
        "build": {"key": "k"},
        "files": {"genai_config.json": {"sha256": "0" * 64, "size_bytes": 2}},
    }
    return Manifest.model_validate(values | changes)


@pytest.fixture
def package_folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"model" * 100)
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    (tmp_path / "genai_config.json").write_bytes(b"{}")
    files = {name: digest_file(tmp_path / name) for name in ("model.onnx", "tokenizer.json", "genai_config.json")}
    write(tmp_path, manifest(files=files))
    return tmp_path


@pytest.mark.parametrize("name", ["a", "Qwen2.5-0.5B_int4", "0", "a" * 100, "console", "com10"])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a..b",
        "a/b",
        "a\\b",
        "a b",
        " a",
        "-a",
        ".a",
        "a.",
        "a:1",
        "ü",
        "a\n",
        "a" * 101,
        "CON",
        "nul.txt",
    ],
)
def test_names_that_could_not_be_a_folder_everywhere(name: str) -> None:
    with pytest.raises(NameInvalid, match="cannot be a package name") as caught:
        check_name(name)
    assert shown(name) in caught.value.what


@given(st.text(max_size=30) | st.text(ALLOWED, max_size=30))
def test_a_name_that_passes_is_one_plain_folder_name(name: str) -> None:
    try:
        check_name(name)
    except NameInvalid:
        return
    assert Path(name).name == name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert ".." not in name
    assert name[0].isalnum()
    assert name[-1] != "."


@given(st.from_regex(r"[a-z][a-z0-9-]{1,20}[a-z]", fullmatch=True), st.integers(1, 999_999_999))
def test_references_come_apart_as_they_were_put_together(name: str, version: int) -> None:
    try:
        check_name(name)
    except NameInvalid:
        return
    assert parse_ref(f"{name}:{version}") == (name, version)
    assert parse_ref(f"{name}:v{version}") == (name, version)
    assert parse_ref(name) == (name, None)


@pytest.mark.parametrize(
    "ref", ["a:", "a:0", "a:-1", "a:1.0", "a:x", "a:1:2", "a:٣", "a: 1", "a:9999999999", ":1", "a/b:1"]
)
def test_references_that_name_nothing(ref: str) -> None:
    with pytest.raises(NameInvalid):
        parse_ref(ref)


@given(st.text(max_size=20))
def test_any_text_is_a_reference_or_invalid(text: str) -> None:
    try:
        name, version = parse_ref(text)
    except NameInvalid:
        return
    assert check_name(name)
    assert version is None or version >= 1


def test_a_digest_is_sha256_and_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert digest_file(path) == FileDigest(sha256=hashlib.sha256(b"abc").hexdigest(), size_bytes=3)


def test_a_folder_is_read_back_as_it_was_written(package_folder: Path) -> None:
    package = read(package_folder)
    assert set(package.manifest.files) == {"model.onnx", "tokenizer.json", "genai_config.json"}
    assert (package.manifest.format, package.manifest.size_bytes, package.stated) == (2, 504, None)
    assert package.digest == digest_file(package_folder / MANIFEST_NAME).sha256
    assert verify(package) == []
    assert not [path for path in package_folder.iterdir() if path.name.startswith(".")]


def test_faults_name_the_file(package_folder: Path) -> None:
    (package_folder / "tokenizer.json").unlink()
    content = bytearray((package_folder / "model.onnx").read_bytes())
    content[7] ^= 1
    (package_folder / "model.onnx").write_bytes(content)
    faults = verify(read(package_folder))
    assert [fault.split()[0] for fault in faults] == ["model.onnx", "tokenizer.json"]
    assert "altered" in faults[0]
    assert "missing" in faults[1]
    (package_folder / "model.onnx").write_bytes(b"short")
    assert "5 bytes instead of 500" in verify(read(package_folder))[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOF while parsing"),
        (b"\xff\xfe", "manifest cannot be read"),
        (b"{}", "context_tokens: Field required"),
        (b'{"format": 2}', "context_tokens: Field required"),
        (b"[]", "manifest cannot be read"),
        (b"[" * 100_000, "manifest cannot be read"),
        (b'{"format": "3"}', "manifest cannot be read"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(PackageDamaged, match=reason) as caught:
        read(tmp_path)
    assert caught.value.where == str(tmp_path / MANIFEST_NAME)


def test_a_folder_without_a_manifest_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(PackageDamaged, match="manifest cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\x", "C:x", "", ".", "a//b", "a\0", "n" * 300])
def test_a_manifest_lists_only_files_inside_its_folder(name: str) -> None:
    with pytest.raises(ValidationError, match="no file inside the package"):
        manifest(files={name: FileDigest(sha256="0" * 64, size_bytes=1)})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a/Model.onnx", "a/model.onnx"], "one file on Windows and macOS"),
        (["a\x1b[31mb"], "no name that can be shown"),
        (["a\u202eb"], "no name that can be shown"),
    ],
)
def test_a_manifest_lists_files_that_every_system_can_have(names: list[str], said: str) -> None:
    digest = FileDigest(sha256="0" * 64, size_bytes=1)
    with pytest.raises(ValidationError, match=said):
        manifest(files=dict.fromkeys(["genai_config.json", *names], digest))


@pytest.mark.parametrize("change", [{"name": "a"}, {"version": 1}, {"surprise": 1}, {"files": {"a": {"sha256": "x"}}}])
def test_a_manifest_is_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        manifest(**change)


def test_the_manifest_is_json_that_people_can_read(package_folder: Path) -> None:
    text = (package_folder / MANIFEST_NAME).read_text(encoding="utf-8")
    assert json.loads(text)["recipe"] == {"precision": "int4"}
    assert text.endswith("}\n")


# --- files that the manifest does not list ------------------------------------------------------------


@pytest.mark.parametrize("name", ["adapter.onnx", "model/extra.bin", "other/deep/extra.bin"])
def test_a_file_more_is_a_fault(package_folder: Path, name: str) -> None:
    (package_folder / "model").mkdir()
    (package_folder / "model" / "part").write_bytes(b"x")
    files = read(package_folder).manifest.files | {"model/part": digest_file(package_folder / "model" / "part")}
    write(package_folder, manifest(files=files))
    assert verify(read(package_folder)) == []
    (package_folder / name).parent.mkdir(parents=True, exist_ok=True)
    (package_folder / name).write_bytes(b"x")
    assert verify(read(package_folder)) == [f"{name} is not in the manifest"]
    assert verify(read(package_folder), besides={name}) == []
    (package_folder / "model.onnx").unlink()
    package = read(package_folder)
    assert (altered(package), unlisted(package)) == (["model.onnx is missing"], [f"{name} is not in the manifest"])


def test_what_systems_leave_behind_is_none(package_folder: Path) -> None:
    (package_folder / ".DS_Store").write_bytes(b"x")
    (package_folder / "folder").mkdir()
    assert verify(read(package_folder)) == []


# --- other formats -----------------------------------------------------------------------------------

OLD: dict[str, Any] = {
    "format": 1,
    "name": "support-int4",
    "version": 3,
    "created": "2026-11-22T10:00:00Z",
    "edgeship_version": "0.1.0",
    "context_tokens": 512,
    "checkpoint": {"source": "tiny", "architecture": "Qwen2ForCausalLM"},
    "adapter": None,
    "recipe": {"precision": "int4"},
    "build": {"key": "k", "wall_s": 1.5},
    "files": {"genai_config.json": {"sha256": "0" * 64, "size_bytes": 2}},
    "measurements": {"threads": 2},
    "verdict": {"holds": True},
}
"""A manifest as it was before names left the package."""


def put(folder: Path, **changes: Any) -> Package:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_NAME).write_text(json.dumps(OLD | changes), encoding="utf-8")
    return read(folder)


def test_a_manifest_of_format_1_is_read_and_tells_what_the_store_keeps_today(tmp_path: Path) -> None:
    package = put(tmp_path)
    assert package.manifest.format == 1
    assert package.stated
    assert (package.stated.name, package.stated.version) == ("support-int4", 3)
    assert (package.stated.measurements, package.stated.verdict) == ({"threads": 2}, {"holds": True})
    assert package.digest == digest_file(tmp_path / MANIFEST_NAME).sha256


@pytest.mark.parametrize(
    "change",
    [
        *({"name": "../up"}, {"version": 0}, {"version": None}, {"version": "3"}, {"surprise": 1}),
        *({"verdict": {"reasons": [1]}}, {"verdict": []}),
    ],
)
def test_a_manifest_of_format_1_is_checked(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(PackageDamaged, match=next(iter(change))):
        put(tmp_path, **change)


@pytest.mark.parametrize(
    "change",
    [{"format": number} for number in (0, -1, 1.0, 2.0, "1", "2", True, None)]
    + [{"context_tokens": tokens} for tokens in (0, "512", True, 10**30)],
)
def test_numbers_are_what_they_should_be(package_folder: Path, change: dict[str, Any]) -> None:
    path = package_folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change), encoding="utf-8")
    with pytest.raises(PackageDamaged, match=next(iter(change))):
        read(package_folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"checkpoint": {"parameters": "many"}},
            r"checkpoint: .*has checkpoint\.parameters 'many', which is not a whole",
        ),
        ({"checkpoint": {"licence": ["mit"]}}, r"has checkpoint\.licence \['mit'\], which is not a text"),
        ({"recipe": {"precision": 4}}, r"recipe: .*has recipe\.precision 4, which is not a text"),
        ({"checkpoint": []}, "checkpoint"),
    ],
)
def test_what_a_manifest_describes_has_its_type(package_folder: Path, change: dict[str, Any], said: str) -> None:
    path = package_folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change), encoding="utf-8")
    with pytest.raises(PackageDamaged, match=said):
        read(package_folder)


def test_a_manifest_that_says_something_twice_is_damaged(package_folder: Path) -> None:
    path = package_folder / MANIFEST_NAME
    path.write_text(path.read_text(encoding="utf-8").replace("{", '{"format": 1,', 1), encoding="utf-8")
    with pytest.raises(PackageDamaged, match="'format' is there twice, as 1 and as 2"):
        read(package_folder)


def test_a_manifest_without_a_model_is_damaged(package_folder: Path) -> None:
    path = package_folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"files": {}}), encoding="utf-8")
    with pytest.raises(PackageDamaged, match=r"genai_config\.json is not listed"):
        read(package_folder)


def test_a_later_format_is_told_from_damage(tmp_path: Path) -> None:
    with pytest.raises(FormatUnknown, match="later Edgeship") as caught:
        put(tmp_path, format=3)
    assert caught.value.where == str(tmp_path / MANIFEST_NAME)


@pytest.mark.parametrize(
    ("folder", "called"),
    [
        ("support", ("support", 1)),
        ("support/v7", ("support", 7)),
        ("support/onnx", ("support", 1)),
        ("support/output/model", ("support", 1)),
        ("support/v0", ("v0", 1)),
    ],
)
def test_a_package_is_called_as_its_folder(tmp_path: Path, folder: str, called: tuple[str, int]) -> None:
    (tmp_path / folder).mkdir(parents=True)
    assert write(tmp_path / folder, manifest()).called == called


def test_one_of_format_1_is_called_as_it_states_unless_its_folder_is_a_version(tmp_path: Path) -> None:
    assert put(tmp_path / "somewhere").called == ("support-int4", 3)
    assert put(tmp_path / "other" / "v7").called == ("other", 7)


class Item(NamedTuple):
    name: str
    version: int


@pytest.mark.parametrize(
    ("ref", "found", "hint"),
    [
        ("support", [("support", 1), ("support", 2)], "There is support:1, support:2. "),
        ("support:2", [("support", 2)], "There is support:1, support:2. "),
        ("support:9", [], "There is support:1, support:2. "),
        ("suport", [], "Did you mean support? "),
        ("nothing-like-it", [], ""),
    ],
)
def test_what_a_name_means(ref: str, found: list[tuple[str, int]], hint: str) -> None:
    known = [Item("support", 1), Item("support", 2), Item("other", 1)]
    assert select(known, ref) == (found, hint)
