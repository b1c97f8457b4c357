"""What the release gate said of a package: kept beside it, bound to it, brought along, and never taken for more."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgeship.errors import GateFailed, NotWritable, PackageDamaged
from edgeship.package import manifest
from edgeship.package.manifest import MANIFEST_NAME, Package
from edgeship.store import attestations, listing, packages, verification
from edgeship.store.listing import Entry
from edgeship.system import storage
from tests.packages import make_package


def verdict(outcome: str = "pass", *, created: str = "2026-11-27T10:00:00Z", **more: Any) -> dict[str, Any]:
    """As `verdict_document` makes one, of two checks."""
    checks = {"integrity": {"outcome": "pass", "findings": []}, "domain": {"outcome": outcome, "findings": []}}
    head = {"schema": "edgeship/verdict/1", "created": created, "effort": "default", "only": [], "off": {}}
    return {**head, "outcome": outcome, "took_s": 1.5, "checks": checks, **more}


def in_part(check: str, outcome: str, **more: Any) -> dict[str, Any]:
    """As `validate --only CHECK` has it."""
    made = {"integrity": "skipped", "domain": "skipped"} | {check: outcome}
    checks = {name: {"outcome": each, "findings": []} for name, each in made.items()}
    return verdict(outcome, checks=checks, only=[check], **more)


def unlooked(**more: Any) -> dict[str, Any]:
    """A run of all checks that had nothing to ask, so that one was not made."""
    return verdict("skipped", **more) | {"outcome": "pass"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Package:
    return make_package(tmp_path / "model-int4")


def install(source: Package | Path, folder: Path, **options: Any) -> Entry:
    return packages.install(source if isinstance(source, Path) else source.folder, folder, **options)[0]


def path_of(entry: Entry) -> Path:
    return entry.folder.parent / f"{entry.folder.name}.attestation.jsonl"


def outcome(folder: Path, ref: str) -> str | None:
    return listing.find(folder, ref).gate


def test_it_is_an_in_toto_statement_about_the_manifest(source: Package, folder: Path) -> None:
    installed = install(source, folder, gate=verdict())
    statement = json.loads(path_of(installed).read_bytes())
    assert list(statement) == ["_type", "subject", "predicateType", "predicate"]
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    digest = hashlib.sha256((installed.folder / MANIFEST_NAME).read_bytes()).hexdigest()
    assert statement["subject"] == [{"name": "model-int4", "digest": {"sha256": digest}}]
    assert statement["predicateType"] == "urn:edgeship:verdict:1"
    assert statement["predicate"] == verdict()
    assert sorted(path.name for path in installed.folder.parent.iterdir()) == ["v1", "v1.attestation.jsonl", "v1.json"]
    assert outcome(folder, "model-int4") == "pass"


def test_the_last_verdict_of_all_checks_counts(source: Package, folder: Path) -> None:
    installed = install(source, folder)
    assert outcome(folder, "model-int4") is None
    for said in ("pass", "undecided", "fail"):
        kept = packages.attest(folder, installed.folder, source.digest, verdict(said))
        assert kept == listing.find(folder, "model-int4")
        assert kept.gate == said
    again, new = packages.install(source.folder, folder, gate=verdict("pass"))
    assert (again.gate, new, outcome(folder, "model-int4")) == ("pass", False, "pass")
    assert len(path_of(again).read_bytes().splitlines()) == 1, "nothing of the others counts any more"


def said_of(source: Package, folder: Path, *verdicts: dict[str, Any]) -> Entry:
    """A package after these verdicts, one after another."""
    installed = install(source, folder)
    for number, given in enumerate(verdicts):
        now = given | {"created": f"2026-11-27T10:00:{number:02}Z"}
        packages.attest(folder, installed.folder, source.digest, now)
    return listing.find(folder, "model-int4")


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        # What was not asked for says nothing, so that a package that failed counts as failed.
        ([verdict("fail"), in_part("integrity", "pass")], "fail"),
        ([verdict("fail"), in_part("integrity", "pass"), in_part("domain", "pass")], "pass"),
        ([verdict("fail"), in_part("domain", "undecided")], "undecided"),
        ([verdict("pass"), in_part("domain", "fail")], "fail"),
        ([verdict("pass"), in_part("domain", "fail"), in_part("integrity", "pass")], "fail"),
        ([in_part("domain", "fail"), in_part("integrity", "pass")], "fail"),
        ([in_part("domain", "pass"), in_part("integrity", "pass")], "pass, in part"),
        ([in_part("domain", "pass"), verdict("pass")], "pass"),
        # Nor does what could not be looked at.
        ([verdict("fail"), unlooked()], "fail"),
        ([unlooked(), in_part("domain", "fail")], "fail"),
        # A gate file that turns a check off says that it is not wanted.
        ([verdict("fail"), unlooked(off={"domain": "no cases"})], "pass, in part"),
        ([unlooked(off={"domain": "no cases"}), verdict("pass")], "pass"),
        ([unlooked(off={"domain": "no cases"}), in_part("domain", "fail")], "fail"),
        ([verdict("fail"), in_part("integrity", "pass", off={"domain": "no cases"})], "fail"),
        # A look that is less close finds what is wrong, and does not show that nothing is.
        ([verdict("fail"), verdict("pass", effort="quick")], "fail"),
        ([verdict("pass"), verdict("undecided", effort="quick")], "pass"),
        ([verdict("pass"), verdict("fail", effort="quick")], "fail"),
        ([verdict("fail", effort="quick"), verdict("pass")], "pass"),
        ([verdict("fail"), verdict("pass", effort="quick"), verdict("pass", effort="long")], "pass"),
    ],
)
def test_each_check_counts_by_what_was_said_last(
    verdicts: list[dict[str, Any]], said: str, source: Package, folder: Path
) -> None:
    found = said_of(source, folder, *verdicts)
    assert (found.gate, found.note) == (said, None)


@pytest.mark.parametrize(
    ("now", "failed"),
    [
        (unlooked(), ("domain (default effort, 2026-11-27T10:00:00Z)",)),
        (verdict("pass", effort="quick"), ("domain (default effort, 2026-11-27T10:00:00Z)",)),
        (verdict("pass"), ()),
        (verdict("fail"), ()),
    ],
)
def test_what_failed_before_and_is_not_undone_is_known(
    now: dict[str, Any], failed: tuple[str, ...], source: Package, folder: Path
) -> None:
    assert packages.failed_before(source, folder, now) == ()
    said_of(source, folder, verdict("fail"))
    assert packages.failed_before(source, folder, now | {"created": "2026-11-27T11:00:00Z"}) == failed


def test_a_check_that_was_mended_stands_beside_the_rest(source: Package, folder: Path) -> None:
    both = said_of(source, folder, verdict("fail"), in_part("domain", "pass", effort="long"))
    assert both.attestation is not None
    assert both.attestation.checks == {
        "integrity": attestations.Said("pass", "default", "2026-11-27T10:00:00Z"),
        "domain": attestations.Said("pass", "long", "2026-11-27T10:00:01Z"),
    }
    assert (both.attestation.effort, both.attestation.created) == ("default and long", "2026-11-27T10:00:01Z")
    lines = path_of(both).read_bytes().splitlines()
    assert [json.loads(line)["predicate"]["only"] for line in lines] == [[], ["domain"]]
    # A third verdict leaves both as they were written.
    packages.attest(folder, both.folder, source.digest, in_part("integrity", "pass", created="2026-11-27T11:00:00Z"))
    assert path_of(both).read_bytes().splitlines()[:2] == lines


def test_an_altered_package_has_none(source: Package, folder: Path) -> None:
    installed = install(source, folder, gate=verdict())
    path = installed.folder / MANIFEST_NAME
    values = json.loads(path.read_bytes())
    values["files"]["model.onnx.data"]["sha256"] = "0" * 64
    path.write_text(json.dumps(values), encoding="utf-8")
    found = listing.find(folder, "model-int4")
    assert found.gate is None
    assert "its attestation is of another package and is ignored" in str(found.note)


def test_of_a_damaged_package_verify_tells_none(source: Package, folder: Path) -> None:
    installed = install(source, folder, gate=verdict())
    (result,) = verification.verify(folder)
    assert (result.outcome, result.entry.gate) == ("ok", "pass")
    (installed.folder / "model.onnx").write_bytes(b"g" * 500)
    (result,) = verification.verify(folder)
    assert (result.outcome, result.entry.gate) == ("damaged", None)


@pytest.mark.parametrize("change", [{"only": ["domain"]}, {"off": {"leaks": "it takes too long"}}])
def test_a_part_of_the_gate_does_not_read_as_the_whole(change: dict[str, Any], source: Package, folder: Path) -> None:
    found = install(source, folder, gate=verdict(**change)).attestation
    assert found is not None
    assert found.in_words() == "pass, in part"
    assert {"only": list(found.only), "off": found.off} == {"only": [], "off": {}} | change


def test_where_nothing_was_looked_at_nothing_is_kept(source: Package, folder: Path) -> None:
    installed = install(source, folder, gate=verdict("fail"), force=True)
    nothing = verdict("skipped", checks={"domain": {"outcome": "skipped"}})
    assert packages.attest(folder, installed.folder, source.digest, nothing) is None
    assert outcome(folder, "model-int4") == "failed, forced"


@pytest.mark.parametrize(
    "content",
    [
        *("", "\n\n"),
        *("{", "[]", "{}", "\0", "[" * 10_000, '{"payloadType": "application/vnd.in-toto+json", "payload": ""}'),
        '{"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": "urn:edgeship:verdict:1"}',
    ],
)
def test_a_damaged_or_foreign_one_is_ignored_and_said(content: str, source: Package, folder: Path) -> None:
    installed = install(source, folder, gate=verdict())
    path_of(installed).write_text(content, encoding="utf-8")
    found = listing.find(folder, "model-int4")
    assert (found.gate, found.note) == (None, "its attestation cannot be read and is ignored")
    (result,) = verification.verify(folder)
    assert (result.outcome, result.note) == ("ok", found.note)


@pytest.mark.parametrize(
    "change",
    [
        *({"outcome": "great"}, {"effort": "great"}, {"checks": {"a": 1}}, {"off": {"a": 1}}),
        *({"predicateType": "x"}, {"_type": "x"}),
    ],
)
def test_a_statement_of_something_else_is_ignored(change: dict[str, Any], source: Package, folder: Path) -> None:
    installed = install(source, folder, gate=verdict())
    before = path_of(installed).read_bytes()
    statement = json.loads(before)
    (statement if next(iter(change)) in statement else statement["predicate"]).update(change)
    path_of(installed).write_text(json.dumps(statement), encoding="utf-8")
    assert outcome(folder, "model-int4") is None
    path_of(installed).write_bytes(before + path_of(installed).read_bytes())
    assert outcome(folder, "model-int4") is None, "one that cannot be read may have been the one that failed"


def test_it_goes_with_its_package(source: Package, folder: Path) -> None:
    install(source, folder, gate=verdict())
    packages.remove(folder, "model-int4")
    assert not (folder / "model-int4").exists()


def test_it_comes_along_byte_for_byte(source: Package, folder: Path, tmp_path: Path) -> None:
    first = install(source, folder, gate=verdict())
    other = install(first.folder, tmp_path / "other")
    assert path_of(other).read_bytes() == path_of(first).read_bytes()
    # The same package from elsewhere, under another name: it is known here.
    renamed = install(source, folder, name="renamed")
    assert (path_of(renamed).read_bytes(), renamed.gate) == (path_of(first).read_bytes(), "pass")


def test_of_several_the_last_comes_along(source: Package, folder: Path, tmp_path: Path) -> None:
    first = install(source, folder, gate=verdict("undecided", created="2026-11-27T10:00:00Z"))
    install(source, tmp_path / "other", gate=verdict("pass", created="2026-11-27T11:00:00Z"))
    assert install(tmp_path / "other" / "model-int4" / "v1", folder).gate == "pass"
    assert install(first.folder, tmp_path / "other").gate == "pass"


def test_what_failed_is_installed_by_force_and_marked(source: Package, folder: Path, tmp_path: Path) -> None:
    failed = install(source, folder, gate=verdict("fail"), force=True)
    assert (failed.gate, outcome(folder, "model-int4")) == ("failed, forced", "failed, forced")
    for place, target in ((failed.folder, tmp_path / "other"), (source.folder, folder)):
        why = r"found renamed unfit: domain \(default effort, 2026-11-27T10:00:00Z\)"
        with pytest.raises(GateFailed, match=why) as refused:
            packages.install(place, target, name="renamed")
        assert refused.value.exit_code == 1
    assert listing.entries(tmp_path / "other") == []
    assert install(source, folder, name="renamed", force=True).gate == "failed, forced"
    # Mended is mended: what counts is what was said last.
    assert packages.install(source.folder, folder, name="renamed", gate=verdict("pass"))[0].gate == "pass"


@pytest.mark.parametrize("outcome", ["fail", "pass"])
def test_a_verdict_is_of_no_other_bytes(outcome: str, source: Package, folder: Path, tmp_path: Path) -> None:
    intact = shutil.copytree(source.folder, tmp_path / "intact")
    install(source, folder, gate=verdict(outcome), force=True)
    weights = source.folder / "model.onnx.data"
    weights.write_bytes(bytes(len(weights.read_bytes())))
    for name in ("model-int4", "renamed"):
        with pytest.raises(PackageDamaged, match=r"model\.onnx\.data"):
            packages.install(source.folder, folder, name=name)
    # Nor is what was said of an installed package that is damaged by now.
    (folder / "model-int4" / "v1" / weights.name).write_bytes(weights.read_bytes())
    assert install(intact, folder, name="model-int4").ref == "model-int4:2"
    assert listing.find(folder, "model-int4:2").gate is None


def test_what_failed_after_it_was_installed_was_not_forced(source: Package, folder: Path) -> None:
    installed = install(source, folder, gate=verdict("pass"))
    packages.attest(folder, installed.folder, source.digest, verdict("fail"))
    assert outcome(folder, "model-int4") == "fail"


def test_without_its_record_it_is_still_known(source: Package, folder: Path) -> None:
    installed = install(source, folder, gate=verdict("fail"), force=True)
    (installed.folder.parent / "v1.json").unlink()
    found = listing.find(folder, "model-int4")
    assert (found.gate, found.note) == ("fail", "its record is lost")


def test_only_what_is_installed_here_and_unchanged_is_attested(source: Package, folder: Path) -> None:
    assert packages.attest(folder, source.folder, source.digest, verdict()) is None
    installed = install(source, folder)
    assert packages.attest(folder, installed.folder, "0" * 64, verdict()) is None
    assert packages.attest(folder, folder / "model-int4" / "v2", source.digest, verdict()) is None
    assert not path_of(installed).exists()
    plain = folder / "plain"
    shutil.copytree(source.folder, plain)
    assert packages.attest(folder, plain, source.digest, verdict()) is None
    (plain / "v1").mkdir()
    (plain / "v1.attestation.jsonl").write_text("{}", encoding="utf-8")
    assert verification.faults(manifest.read(plain)) == []


def test_what_a_killed_install_left_is_no_word_about_another_package(source: Package, folder: Path) -> None:
    installed = install(source, folder, gate=verdict())
    storage.remove_folder(installed.folder)
    assert listing.entries(folder) == []
    (source.folder / "README.md").unlink()
    changed = manifest.write(
        source.folder,
        source.manifest.model_copy(
            update={"files": {name: file for name, file in source.manifest.files.items() if name != "README.md"}}
        ),
    )
    again = install(changed, folder)
    assert (again.ref, again.gate, again.note) == ("model-int4:1", None, None)
    assert not path_of(again).exists()


def test_an_install_that_fails_leaves_none(source: Package, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target == folder / "model-int4" / "v1":
            raise OSError(5, "input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(NotWritable):
        install(source, folder, gate=verdict())
    assert not (folder / "model-int4").exists()


def test_a_garbage_collection_leaves_it(source: Package, folder: Path) -> None:
    installed = install(source, folder, gate=verdict())
    assert packages.sweep(folder) == []
    assert path_of(installed) == attestations.path_of(installed.folder)
    assert outcome(folder, "model-int4") == "pass"
