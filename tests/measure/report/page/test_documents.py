from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from edgeship.errors import DocumentInvalid
from edgeship.measure.report.page import documents
from edgeship.measure.report.page.rendering import render
from tests.measure.report.page import samples
from tests.measure.report.page.parsed import HOSTILE, Page

KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "bench": samples.bench,
    "bench-pair": samples.bench_pair,
    "eval": samples.evaluation,
    "fidelity": samples.fidelity,
    "verdict": samples.verdict,
}


def shown(folder: Path, *values: dict[str, Any]) -> Page:
    found = [samples.kept(folder, f"run{number}", each) for number, each in enumerate(values)]
    return Page(render(documents.page(found)))


def html(text: str) -> str:
    """A page with two documents of each kind, whose texts are this one."""
    with TemporaryDirectory() as folder:
        made = [kind(text, created=f"2026-11-2{day}") for kind in KINDS.values() for day in (6, 7)]
        made += [samples.shipped(name=text), samples.shipped(checkpoint={"source": text})]
        found = [samples.kept(Path(folder), f"run{number}", values) for number, values in enumerate(made)]
        return render(documents.page(found))


def test_the_page_stands_alone() -> None:
    made = html("words")
    page = Page(made)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "use", "image", "form"} & set(page.tags)
    assert not {name for name, _ in page.attributes} & {"src", "href", "xlink:href", "srcset", "style"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?://", made)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'") in (
        page.attributes
    )


def test_readers_of_screens_find_their_way() -> None:
    page = Page(html("words"))
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.tags.count("caption") == page.tags.count("table") > 10
    # A picture has a title and says what it shows; a legend's sample of a line is named beside it.
    pictures = page.attributes.count(("role", "img"))
    assert (
        page.tags.count("desc") == pictures == page.tags.count("svg") - page.attributes.count(("aria-hidden", "true"))
    )
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    meant = {value for name, value in page.attributes if name in ("aria-labelledby", "aria-describedby")}
    assert meant == set(ids)
    assert page.tags.count("th") == len([name for name, _ in page.attributes if name == "scope"])


def test_hostile_texts_stay_texts() -> None:
    page = Page(html(HOSTILE))
    assert page.tags == Page(html("words")).tags
    assert page.text.count(HOSTILE) > 100


def test_endless_texts_and_cases_leave_a_page_of_a_bounded_size(tmp_path: Path) -> None:
    endless = '<&"' * 1000
    many = samples.evaluation(endless, passes=[False] * 60)
    found = [samples.kept(tmp_path, "many", many), samples.kept(tmp_path, "fidelity", samples.fidelity(endless))]
    levels = samples.bench(clients=range(1, 100))
    for level in levels["levels"]:
        level["cost"]["rss_over_time"] = [[second, 10**8 + second] for second in range(300)]
    found.append(samples.kept(tmp_path, "levels", levels))
    page = render(documents.page(found))
    assert len(page.encode()) < 3_000_000
    assert "more characters)" in page


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_leaves_its_section_out(kind: str, tmp_path: Path) -> None:
    full = KINDS[kind]()
    bare = {key: full[key] for key in ("schema", "created")}
    page = shown(tmp_path, bare)
    assert page.tags.count("h1") == 1
    assert not {"h2", "table", "svg", "details"} & set(page.tags)
    for missing in full:
        if missing != "schema":
            assert shown(tmp_path, {key: value for key, value in full.items() if key != missing}).open == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (samples.bench() | {"levels": {}}, "run0.json has levels {}, which is not a list"),
        (samples.evaluation() | {"ways": {"greedy": {"pass_rate": "much"}}}, "has ways.greedy.pass_rate 'much'"),
        (samples.fidelity() | {"candidates": {"a": {"fidelity": {"kld_counts": [-1]}}}}, "candidates.a.fidelity.kld_c"),
        (samples.shipped(candidates=[{"label": "int4"}]), "a report of ship that this version cannot read"),
    ],
)
def test_a_field_of_another_type_is_named(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentInvalid, match=re.escape(said)):
        shown(tmp_path, values)


def test_one_document_is_a_page_of_its_own(tmp_path: Path) -> None:
    text = shown(tmp_path, samples.bench()).words
    assert "words under load" in text
    assert "Load over time" not in text
    for part in ("Latency over requests at the same time", "Throughput", "Memory over time", "What it cost"):
        assert part in text
    assert "needs 90 more" in text
    assert "concurrency 1, concurrency 4: words" in text
    assert "itl is not told: words" in text
    assert "edgeship 1.2.3" in text


def test_two_targets_are_told_by_their_ratios(tmp_path: Path) -> None:
    text = shown(tmp_path, samples.bench_pair()).words
    assert "wordsb beside wordsa" in text
    assert (
        "UNDECIDED: not every condition is decided ttft_p50 > 1.1x at words: not met words at words: undecided" in text
    )
    assert "ttft_p50200 ms100 ms0.5000.400 to 0.600" in text
    assert "In one picture" in text


@pytest.mark.parametrize("made", [samples.bench, samples.bench_pair])
def test_a_run_that_was_cut_short_says_so(made: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    assert "This is a part" not in shown(tmp_path, made() | {"complete": True, "stopped": None}).words
    for stopped, why in (("interrupted", "the run was interrupted"), ("silent", "a target said nothing")):
        text = shown(tmp_path, made() | {"complete": False, "stopped": stopped}).words
        assert f"This is a part: {why}" in text


def test_an_evaluation_tells_whether_its_drop_holds(tmp_path: Path) -> None:
    text = shown(tmp_path, samples.evaluation()).words
    assert "Beside the baseline, case by case, where 3.0 points may be lost" in text
    assert "-10.0 points-20.0 to +0.010undecided" in text


def test_a_verdict_is_told_with_its_evidence_folded(tmp_path: Path) -> None:
    page = shown(tmp_path, samples.verdict() | {"effort": "quick", "told": "fail: triage is not fit for release"})
    text = page.words
    assert "by Edgeship 1.2.3, quick effort" in text
    assert "fail: triage is not fit for release domain: words domain: words What would decide: words" in text
    assert "The gate turns leaks off: words" in text
    assert "Bounds of domain are not the defaults (least is 0.8 instead of 0.9): words" in text
    assert "This is a part: the run was interrupted." in text
    assert "edges was not made: words" in text
    assert "leaks was not made" not in text
    assert "domainfailwords1 fail, 1 undecided, 1 pass12.5 s" in text
    assert "threshold: 50 of 60 requests that show it" in text
    assert "thresholdfail70.0 %80.0 %60.0 % to 80.0 %" in text
    assert "growthpass1.5 words2 words" in text
    assert ("open", "") not in page.attributes


def test_figures_of_verdicts_are_held_beside_each_other(tmp_path: Path) -> None:
    older, newer = samples.verdict(created="2026-11-26"), samples.verdict(created="2026-11-27", figure=0.4)
    text = shown(tmp_path, newer, older).words
    assert "Release gate over time" in text
    assert "domain: threshold70.0 % [60.0, 80.0]40.0 % [30.0, 50.0]-30.0 points" in text


def test_two_runs_stand_beside_each_other_in_the_order_of_time(tmp_path: Path) -> None:
    newer = samples.bench(created="2026-11-28", ttft_s=0.1)
    page = shown(tmp_path, newer, samples.bench(created="2026-11-27"))
    assert "Load over time" in page.words
    table = page.words[page.words.index("figure") :]
    # Halved, with an interval far from nothing; the older run is the second file, and stands first.
    assert table.index("run1") < table.index("run0")
    assert "200 ms [180, 220]" in table
    assert "-50.0 % [-56.6, -42.4], better" in table
    assert "In one picture" in page.words


def test_runs_without_a_figure_in_common_are_no_series(tmp_path: Path) -> None:
    one, other = samples.fidelity(created="2026-11-26"), samples.fidelity(created="2026-11-27")
    other["candidates"] = {f"another-{name}": value for name, value in other["candidates"].items()}
    found = shown(tmp_path, one, other)
    assert "over time" not in found.text
    assert found.text.count("another-") > 0


def test_an_interval_does_not_fall_below_what_can_be(tmp_path: Path) -> None:
    values = samples.fidelity(created="2026-11-26")
    for candidate in values["candidates"].values():
        if "fidelity" in candidate:
            candidate["fidelity"]["errors"] = dict.fromkeys(candidate["fidelity"]["errors"], 1000.0)
    [found] = [samples.kept(tmp_path, "run", values)]
    lows = [figure.low for figure in documents._KINDS["fidelity"].figures(found) if figure.low is not None]
    assert lows
    assert min(lows) == 0.0


def test_what_else_differs_is_told(tmp_path: Path) -> None:
    other = samples.bench(created="2026-11-28")
    other["workload"]["prompt_tokens"] = 512
    text = shown(tmp_path, samples.bench(created="2026-11-27"), other).words
    assert "workload: prompt tokens128512" in text
    assert "machine: cpu" not in text


def test_cases_that_both_runs_asked_are_held_against_each_other(tmp_path: Path) -> None:
    before = samples.evaluation(created="2026-11-27", passes=[True] * 40)
    after = samples.evaluation(created="2026-11-28", passes=[False, False, *[True] * 38])
    text = shown(tmp_path, before, after).words
    assert "40 cases were asked in both runs (as it ships)" in text
    assert "2 are lost and 0 gained, so the pass rate changed by -5.0 points" in text
    assert "Lost, 2 of 2" in text
    # A case that has changed is another one, whatever it is called.
    for case in after["cases"][:2]:
        case["digest"] = "another"
    assert "38 cases were asked in both runs (as it ships)" in shown(tmp_path, before, after).words


def test_cases_that_the_baseline_passes_stand_first(tmp_path: Path) -> None:
    text = shown(tmp_path, samples.evaluation()).words
    cases = text[text.index("Asked as it ships: 20 of 20 that are not right") :]
    assert re.findall(r"words(\d+)", cases)[:3] == ["3", "1", "5"]
    assert "words3 the baseline has it right" in cases


def test_every_kind_has_its_place_whatever_the_order(tmp_path: Path) -> None:
    made = [kind() for kind in KINDS.values()]
    page = shown(tmp_path, *made, samples.shipped())
    again = shown(tmp_path, samples.shipped(), *reversed(made))
    assert "6 measurements" in page.words
    assert page.words == again.words


@pytest.mark.parametrize("kind", [*KINDS.values(), samples.shipped])
def test_a_run_beside_itself_has_not_changed(kind: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    text = shown(tmp_path, kind(), kind()).words
    assert "+0.0 " in text
    assert not re.search(r", (better|worse)\b", text)
