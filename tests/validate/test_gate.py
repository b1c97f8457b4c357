from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeship.errors import GateInvalid
from edgeship.system.fields import LARGEST
from edgeship.system.text import is_visible
from edgeship.validate.bounds import bounds_of
from edgeship.validate.check import Check
from edgeship.validate.checks import CHECKS
from edgeship.validate.gate import REASONS, VERSION, Gate, allowed, as_toml, read_gate
from tests.validate.samples import SomeBounds, check

SOME = (check("domain"), check("leaks"))


def gate(folder: Path, text: str) -> Gate:
    path = folder / "gate.toml"
    path.write_text(text, encoding="utf-8")
    return read_gate(path, SOME)


def test_what_is_written_is_read_as_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(as_toml(CHECKS), encoding="utf-8")
    read = read_gate(path, CHECKS)
    assert [read.of(each) for each in CHECKS] == [each.bounds() for each in CHECKS]
    assert (read.off, read.why) == ({}, {})


def test_every_bound_stands_there_with_what_it_means() -> None:
    text = as_toml(SOME)
    assert tomllib.loads(text)["leaks"] == {"least": 0.8, "growth": 1e-06, "requests": 500, "cores": 2}
    assert "# The smallest share of right answers. A number from 0 to 1.\nleast = 0.8\n" in text
    assert "# So many are asked. A whole number of at least 1.\nrequests = 500\n" in text
    assert max(map(len, text.splitlines())) <= 100
    for key, said in REASONS.items():
        assert f"# {said}" in text
        assert f"{key} = " in text


@pytest.mark.parametrize("checked", CHECKS, ids=lambda checked: checked.name)
def test_every_bound_says_what_it_is_for_and_its_default_is_allowed(checked: type) -> None:
    for one in bounds_of(checked.bounds):  # type: ignore[attr-defined]
        assert type(one.default) in (int, float), f"{one.name} is no number"
        assert one.metadata["least"] <= one.default <= one.metadata["most"], one.name
        assert re.fullmatch(r"[A-Z0-9].*\.", " ".join(one.metadata["why"].split())), f"{one.name}: a whole sentence"
        assert one.name not in REASONS


@pytest.mark.parametrize("checked", CHECKS, ids=lambda checked: checked.name)
def test_every_bound_is_named_after_its_side(checked: Check) -> None:
    for one in bounds_of(checked.bounds):
        assert one.name.startswith(("max_", "min_")), one.name


def test_bounds_and_reasons(tmp_path: Path) -> None:
    found = gate(
        tmp_path,
        'version = 1\n[domain]\nleast = 1\nwhy = "so few cases"\n[leaks]\noff = "restarted each night"\nrequests = 9\n',
    )
    domain, leaks = SOME
    assert found.of(domain) == SomeBounds(least=1.0)
    assert found.of(leaks) == SomeBounds(requests=9)
    assert [found.is_left_out(domain, name) for name in ("least", "growth")] == [False, True]
    assert Gate().is_left_out(domain, "least")
    assert not Gate({"domain": SomeBounds()}).is_left_out(domain, "least")
    assert found.off == {"leaks": "restarted each night"}
    assert found.why == {"domain": "so few cases"}
    assert gate(tmp_path, "version = 1").of(domain) == SomeBounds()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[leaks]", "the gate has no version, which must be a whole number of at least 1"),
        ("version = 'one'", "version 'one', which is not a whole number"),
        (f"version = {VERSION + 1}", f"is of version {VERSION + 1}, and this Edgeship reads up to {VERSION}"),
        ("version = 1\n[domains]", "has 'domains', and there is no such check: domain may be meant"),
        ("version = 1\n[other]", "has 'other', and there is no such check: known are version, domain, leaks"),
        ("version = 1\ndomain = 3", "has domain 3, which is not an object"),
        ("version = 1\n[domain]\nleats = 1", "has domain.'leats', and there is no such bound: least may be meant"),
        ("version = 1\n[domain]\nx = 1", "known are least, growth, requests, cores, why, off"),
        (
            "version = 1\n[domain]\nleast = 1.1",
            "has domain.least 1.1, which is not a number of at least 0 and of at most 1",
        ),
        ("version = 1\n[domain]\nleast = nan", "has domain.least nan, which is not a number"),
        ("version = 1\n[domain]\nleast = inf", "has domain.least inf, which is not a number"),
        ("version = 1\n[domain]\nleast = true", "has domain.least True, which is not a number"),
        ("version = 1\n[leaks]\nrequests = 1.0", "has leaks.requests 1.0, which is not a whole number"),
        ("version = 1\n[leaks]\nrequests = 0", "has leaks.requests 0, which is not a whole number of at least 1"),
        ("version = 1\n[leaks]\ncores = 65", "has leaks.cores 65, which is not a whole number of at most 64"),
        ("", "says nothing: the file is empty, or a pipe that nobody writes to"),
        ("version = 1\n[leaks]\noff = true", "has leaks.off True, which is not a text"),
        ("version = 1\n[leaks]\noff = ' '", "has leaks.off ' ', which is not a reason"),
        ('version = 1\n[leaks]\noff = "\\u200b\\u3164\\u0301"', "which is not a reason that can be read"),
        (
            "version = 1\n[leaks]\nleast = 0.8\nrequests = 9",
            "sets leaks.requests to 9, where 500 is the default, and gives no reason",
        ),
        ("version = 1\n[leaks]\n[leaks]", "is not valid TOML"),
        ("version = ", "is not valid TOML"),
    ],
)
def test_what_it_cannot_say_is_named_by_its_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(GateInvalid, match=re.escape(said)) as raised:
        gate(tmp_path, text)
    assert raised.value.where == str(tmp_path / "gate.toml")
    hint = 'Add the reason below [leaks], as a line of its own: why = "..."' if "no reason" in said else "--write-gate"
    assert hint in str(raised.value.hint)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.toml"):
        with pytest.raises(GateInvalid, match="cannot be read"):
            read_gate(path, SOME)
    (tmp_path / "binary.toml").write_bytes(b"version = 1 # \xff")
    with pytest.raises(GateInvalid, match="cannot be read"):
        read_gate(tmp_path / "binary.toml", SOME)


_REASON = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(is_visible)


@given(
    least=st.floats(0, 1),
    growth=st.floats(0, allow_nan=False, allow_infinity=False),
    requests=st.integers(1, 2**63 - 1),
    cores=st.integers(1, 64),
    why=_REASON,
)
def test_every_value_that_is_allowed_is_read_as_it_stands(
    tmp_path_factory: pytest.TempPathFactory, least: float, growth: float, requests: int, cores: int, why: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    said = why.replace("\\", "\\\\").replace('"', '\\"')
    lines = [
        f"least = {least!r}",
        f"growth = {growth!r}",
        f"requests = {requests}",
        f"cores = {cores}",
        f'why = "{said}"',
    ]
    found = gate(folder, "\n".join(["version = 1", "[domain]", *lines]))
    assert found.of(SOME[0]) == SomeBounds(least, growth, requests, cores)
    assert found.why == {"domain": why}


_VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=5).map(repr)),
    lambda inner: st.lists(inner, max_size=2),
)


@given(name=st.sampled_from(["least", "requests", "cores", "off", "why", "other"]), value=_VALUES)
def test_any_value_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str, value: object) -> None:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    why = "" if name == "why" else "why = 'a trial'\n"
    try:
        found = gate(tmp_path_factory.getbasetemp(), f"version = 1\n[leaks]\n{why}{name} = {text}\n")
    except GateInvalid:
        return
    bounds = found.of(SOME[1])
    assert isinstance(bounds, SomeBounds)
    assert 0 <= bounds.least <= 1 <= bounds.cores <= 64
    assert bounds.requests >= 1


def test_counts_may_be_larger_than_those_of_documents(tmp_path: Path) -> None:
    found = gate(tmp_path, f"version = 1\n[leaks]\nwhy = 'long'\nrequests = {LARGEST + 1}\n").of(SOME[1])
    assert isinstance(found, SomeBounds)
    assert found.requests == LARGEST + 1
    assert allowed(bounds_of(SomeBounds)[2]) == "A whole number of at least 1"
