"""What the page shows of a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship.serve import ServeOptions, app
from edgeship.serve.models import Pool
from edgeship.settings import Settings
from edgeship.store import packages
from tests.packages import make_package
from tests.scripted import ScriptedEngine
from tests.serve.page import models
from tests.serve.page.conftest import Visit
from tests.serve.page.screen import body_of, button, send
from tests.serve.serving import card, serving
from tests.store.test_attestations import verdict as said

pytestmark = pytest.mark.slow

MEASURED = {
    "size_bytes": 5_000_000,
    "speed": {"decode_tokens_per_s": {"median": 321.0}},
    "evaluation": {
        "cases": 100,
        "passed": 91,
        "pass_rate": 0.91,
        "pass_rate_95": {"low": 0.84, "high": 0.95},
        "by_slice": {"seen": {"cases": 60, "passed": 58}, "new": {"cases": 40, "passed": 33}},
    },
}


@pytest.fixture
def url(tmp_path: Path, settings: Settings) -> Iterator[str]:
    package = make_package(tmp_path / "package")
    reasons = ["INT4 is undecided: 91.0 %"]
    verdict = {"holds": True, "outcome": "undecided", "reasons": reasons, "thresholds": {"min_pass_rate": 0.8}}
    installed, _ = packages.install(
        package.folder, settings.cache_dir, name="tiny", measurements=MEASURED, verdict=verdict
    )
    template = "{% if enable_thinking %}<think>{% endif %}"
    (installed.folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    cards = [card("org/tiny", folder=installed.folder), card("other")]

    def open_chat(_: object) -> ScriptedEngine:
        return ScriptedEngine(models.ANSWERS)

    with serving(lambda: app.over(Pool(cards, settings=settings, open_chat=open_chat), ServeOptions())) as url:
        yield url


def test_a_package_its_figures_and_its_verdict(visit: Visit, url: str) -> None:
    page = visit(url)
    page.get_by_text("passes 91.0 % of 100 cases").wait_for()
    page.get_by_role("link", name="Model", exact=True).click()
    page.get_by_role("heading", name="org/tiny").wait_for()
    verdict = page.get_by_role("region", name="Verdict")
    assert "INT4 is undecided: 91.0 %" in verdict.inner_text()
    assert verdict.get_by_text("Undecided: it may hold").is_visible()
    assert page.locator(".tiles").get_by_text("321.0 tokens/s").is_visible()
    assert page.locator(".bar-row").all_inner_texts() == [
        "all cases\n91.0 % of 100",
        "seen\n96.7 % of 60",
        "new\n82.5 % of 40",
    ]
    assert page.locator(".pairs").get_by_text("tiny:1").is_visible()
    page.locator("details.part > summary").click()
    assert page.get_by_role("rowheader", name="genai_config.json").is_visible()
    page.reload()
    page.get_by_role("heading", name="org/tiny").wait_for()


def test_what_the_release_gate_found_unfit_is_marked_in_the_list(
    visit: Visit, tmp_path: Path, settings: Settings
) -> None:
    package = make_package(tmp_path / "package")
    installed, _ = packages.install(package.folder, settings.cache_dir, name="tiny", gate=said("fail"), force=True)
    cards = [card("tiny", folder=installed.folder), card("other")]
    pool = Pool(cards, settings=settings, open_chat=lambda _: ScriptedEngine(models.ANSWERS))
    with serving(lambda: app.over(pool, ServeOptions())) as url:
        page = visit(url)
        page.locator("#welcome").get_by_text("release gate: failed, forced").wait_for()
        names = page.locator("#model option").all_inner_texts()
        assert names == ["tiny (release gate: failed, forced)", "other"]
        assert page.locator("#model").input_value() == "tiny"


def test_its_defaults_stand_in_the_settings(visit: Visit, url: str) -> None:
    page = visit(url)
    page.get_by_text("passes 91.0 % of 100 cases").wait_for()
    button(page, "Settings").click()
    assert page.get_by_label("Temperature").get_attribute("placeholder") == "0"
    assert page.get_by_label("Seed").get_attribute("placeholder") == "default"


def test_thinking_is_switched_on_as_its_template_has_it(visit: Visit, url: str) -> None:
    page = visit(url)
    page.get_by_text("passes 91.0 % of 100 cases").wait_for()
    button(page, "Settings").click()
    field = page.get_by_label("Thinking")
    assert field.locator("option").all_inner_texts() == ["As the model does by itself", "Off", "On"]
    field.select_option("On")
    with page.expect_request("**/v1/chat/completions") as request:
        send(page, "hello")
    assert body_of(request.value)["chat_template_kwargs"] == {"enable_thinking": True}


def test_a_model_of_which_nothing_is_known(visit: Visit, url: str) -> None:
    page = visit(url)
    page.goto(f"{url}/#/models/other")
    page.get_by_role("heading", name="other").wait_for()
    page.locator("#about").get_by_text("nothing is known").wait_for()
    page.goto(f"{url}/#/models/nobody")
    page.get_by_role("alert").wait_for()


def test_without_metrics(visit: Visit, url: str) -> None:
    page = visit(url, ready=False)
    page.route("**/metrics", lambda route: route.fulfill(status=404))
    page.goto(f"{url}/#/models/other")
    page.get_by_text("This server gives no metrics to this page.").wait_for()


def test_live_metrics(visit: Visit) -> None:
    with serving(lambda: models.scripted(delay_s=0.005)) as url:
        page = visit(url)
        page.get_by_label("Model", exact=True).select_option("alias")
        page.get_by_role("link", name="Model", exact=True).click()
        page.get_by_role("img", name="Answers in the making: 0").wait_for()
        page.get_by_role("link", name="Chat", exact=True).click()
        page.get_by_label("Message to the model").fill("long")
        page.keyboard.press("Enter")
        page.locator("#log").get_by_text("word").wait_for()
        page.get_by_role("link", name="Model", exact=True).click()
        page.get_by_role("img", name="Answers in the making: 1").wait_for()
        page.get_by_role("img", name="Requests waiting: 0").wait_for()
        assert page.get_by_role("img", name="Tokens a second: ").count() == 1
        page.close()


def test_what_came_in_between_two_looks_at_the_metrics(visit: Visit, url: str) -> None:
    page = visit(url)
    found = page.evaluate(
        """async () => {
          const { samples, median } = await import("/page/live.js");
          const text = '# HELP x y\\nvllm:num{model_name="a\\\\"b",x="1"} 2.5\\nedgeship_num 3 123\\nbroken';
          const histogram = (...counts) => new Map([0.1, 0.2, Infinity].map((end, index) => [end, counts[index]]));
          const before = histogram(1, 1, 1);
          const late = median(new Map(), histogram(0, 0, 2));
          return [samples(text), median(before, histogram(1, 5, 5)), median(before, before), late];
        }"""
    )
    assert [sample["value"] for sample in found[0]] == [2.5, 3]
    assert {sample["name"] for sample in found[0]} == {"num"}
    assert [round(value, 3) if value else value for value in found[1:]] == [0.15, None, 0.2]
