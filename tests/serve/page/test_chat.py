"""Asking and answering on the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeship.engine.api import Limits
from edgeship.serve import ServeOptions
from tests.serve.page import models
from tests.serve.page.conftest import Visit
from tests.serve.page.screen import answers, body_of, button, ended, focused, send
from tests.serve.serving import calling_app, scripted_app, serving

pytestmark = pytest.mark.slow

KEY = "a-key-that-is-long-enough"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda: models.scripted(delay_s=0.002)) as url:
        yield url


def test_an_answer_with_what_it_took(visit: Visit, url: str) -> None:
    page = visit(url)
    answer = send(page, "hello")
    assert answer.locator(".text").inner_text() == "Good day to you."
    took = answer.locator(".took").inner_text().split(" · ")
    assert took[0].endswith("tokens/s")
    assert took[1].startswith("first token after")
    assert took[2] == f"{len('Good day to you.') + 1} tokens"
    assert page.url.startswith(f"{url}/#/c/")
    assert focused(page) == "question"


def test_the_whole_conversation_is_asked(visit: Visit, url: str) -> None:
    page = visit(url)
    with page.expect_request("**/v1/chat/completions"):
        send(page, "hello")
    with page.expect_request("**/v1/chat/completions") as second:
        send(page, "rich")
    asked = body_of(second.value)
    assert [message["content"] for message in asked["messages"]] == ["hello", "Good day to you.", "rich"]
    assert asked["model"] == "scripted"
    assert asked.keys() == {"model", "messages", "stream", "stream_options"}


def test_an_answer_comes_as_it_is_made_and_is_stopped(visit: Visit, url: str) -> None:
    page = visit(url)
    page.get_by_label("Message to the model").fill("long")
    page.keyboard.press("Enter")
    page.locator("#log").get_by_text("word word word word").wait_for()
    assert button(page, "Stop").is_visible()
    page.keyboard.press("Escape")
    page.get_by_text("Stopped.").wait_for()
    text = answers(page).locator(".text").inner_text()
    assert text
    assert len(text) < len(models.ANSWERS["long"])
    assert focused(page) == "question"
    assert send(page, "hello").locator(".text").inner_text() == "Good day to you."


def test_it_is_stopped_with_the_button_too(visit: Visit, url: str) -> None:
    page = visit(url)
    page.get_by_label("Message to the model").fill("long")
    button(page, "Send").click()
    page.locator("#log").get_by_text("word word").wait_for()
    button(page, "Stop").click()
    page.get_by_text("Stopped.").wait_for()
    assert focused(page) == "question"


def test_answering_again_keeps_the_first_answer(visit: Visit, url: str) -> None:
    page = visit(url)
    send(page, "hello")
    button(page, "Answer again").click()
    page.get_by_text("2 / 2").wait_for()
    ended(page)
    assert answers(page).count() == 1
    button(page, "Version before").click()
    assert page.get_by_text("1 / 2").is_visible()
    assert focused(page)


def test_an_edited_question_branches_off(visit: Visit, url: str) -> None:
    page = visit(url)
    send(page, "hello")
    send(page, "think")
    question = page.locator(".message.user").first
    question.hover()
    button(question, "Edit").click()
    page.get_by_label("Edited message").fill("rich")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Kettles").wait_for()
    ended(page)
    assert page.locator(".bubble").all_inner_texts() == ["rich"]
    button(page, "Version before").first.click()
    assert page.locator(".bubble").all_inner_texts() == ["hello", "think"]
    button(page, "Version after").first.click()
    assert page.locator(".bubble").all_inner_texts() == ["rich"]


def test_editing_is_given_up(visit: Visit, url: str) -> None:
    page = visit(url)
    send(page, "hello")
    page.keyboard.press("ArrowUp")
    page.get_by_label("Edited message").fill("other")
    page.keyboard.press("Escape")
    assert page.locator(".bubble").all_inner_texts() == ["hello"]
    assert focused(page) == "Edit"


def test_thoughts_are_folded(visit: Visit, url: str) -> None:
    page = visit(url)
    answer = send(page, "think")
    assert answer.locator(".text").inner_text() == "The answer is 42."
    assert not answer.locator(".thoughts").is_visible()
    answer.get_by_text("Thoughts").click()
    assert answer.locator(".thoughts strong").inner_text() == "question"


def test_settings_are_sent_and_only_those_that_are_set(visit: Visit, url: str) -> None:
    page = visit(url)
    button(page, "Settings").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Longest answer").fill("4")
    page.get_by_label("Seed").fill("7")
    with page.expect_request("**/v1/chat/completions") as request:
        answer = send(page, "hello")
    asked = body_of(request.value)
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {name: asked[name] for name in ("temperature", "max_tokens", "seed")} == {
        "temperature": 0.5,
        "max_tokens": 4,
        "seed": 7,
    }
    assert "top_p" not in asked
    assert answer.locator(".text").inner_text() == "Good"
    assert answer.get_by_text("The answer is as long as it may be").is_visible()
    page.reload()
    page.locator("#model option").first.wait_for(state="attached")
    button(page, "Settings (some are set)").click()
    assert page.get_by_label("Temperature").input_value() == "0.5"


def test_an_answer_is_held_to_a_schema(visit: Visit) -> None:
    with serving(scripted_app) as url:
        page = visit(url)
        button(page, "Settings").click()
        field = page.get_by_label("JSON schema")
        field.fill("{")
        assert field.get_attribute("aria-invalid") == "true"
        broken = send(page, "hello")
        assert "The JSON schema is no JSON" in broken.get_by_role("alert").inner_text()
        field.fill('{"enum": ["yes"]}')
        assert field.get_attribute("aria-invalid") == "false"
        button(page, "Try again").click()
        page.get_by_text("2 / 2").wait_for()
        ended(page)
        assert answers(page).locator("pre").inner_text() == '"yes"'


def test_thinking_is_switched_off(visit: Visit, url: str) -> None:
    page = visit(url)
    button(page, "Settings").click()
    page.get_by_label("Thinking").select_option("Off")
    with page.expect_request("**/v1/chat/completions") as request:
        send(page, "hello")
    assert body_of(request.value)["reasoning_effort"] == "none"


def test_tools_are_called_and_their_results_sent(visit: Visit) -> None:
    with serving(calling_app) as url:
        page = visit(url)
        button(page, "Settings").click()
        page.get_by_label("Tools").fill('[{"name": "weather", "parameters": {"type": "object"}}]')
        with page.expect_request("**/v1/chat/completions") as request:
            answer = send(page, "Is it wet?")
        assert body_of(request.value)["tools"][0]["function"]["name"] == "weather"
        assert answer.locator(".call").inner_text().startswith("Calls weather")
        assert '"location": "San Francisco"' in answer.locator(".call pre").inner_text()
        page.get_by_label("Result of weather").fill("rain")
        with page.expect_request("**/v1/chat/completions") as request:
            button(page, "Send results").click()
        page.locator("#log").get_by_text("It rains.").wait_for()
        ended(page)
        assert body_of(request.value)["messages"][-1] == {"role": "tool", "tool_call_id": "call_0", "content": "rain"}


def test_several_calls_come_in_pieces(visit: Visit) -> None:
    with serving(scripted_app) as url:
        page = visit(url)
        button(page, "Settings").click()
        parameters = '{"type": "object", "properties": {"location": {"type": "string"}}}'
        page.get_by_label("Tools").fill(f'[{{"name": "weather", "parameters": {parameters}}}, {{"name": "time"}}]')
        answer = send(page, "weather and time?")
        assert answer.locator(".text").inner_text() == "I look."
        assert answer.locator(".call-head").all_inner_texts() == ["Calls weather", "Calls time"]
        assert '"location": "San Francisco"' in answer.locator(".call pre").first.inner_text()


def test_half_an_answer_is_kept_with_its_error(visit: Visit) -> None:
    with serving(models.breaking) as url:
        page = visit(url)
        answer = send(page, "hello")
        assert answer.locator(".text").inner_text() == "Half an"
        assert "engine-failed" in answer.get_by_role("alert").inner_text()
        button(page, "Try again").click()
        page.locator("#log").get_by_text("Good day to you.").wait_for()
        ended(page)
        assert page.get_by_text("2 / 2").is_visible()


def test_a_refusal_is_told_in_words(visit: Visit, url: str) -> None:
    page = visit(url)
    answer = send(page, "x" * 30_000)
    assert "The prompt has 30017 tokens" in answer.get_by_role("alert").inner_text()
    assert button(answer, "Try again").is_visible()


def test_a_server_that_is_gone(visit: Visit) -> None:
    with serving(models.scripted) as url:
        page = visit(url)
        send(page, "hello")
    answer = send(page, "rich")
    assert "The server cannot be reached" in answer.get_by_role("alert").inner_text()


def test_a_server_that_is_full(visit: Visit) -> None:
    with serving(lambda: models.scripted(delay_s=0.01, slots=1, limits=Limits(waiting=1))) as url:
        page = visit(url)
        for _ in range(2):  # one is answered, one waits
            page.get_by_label("Message to the model").fill("long")
            page.keyboard.press("Enter")
            page.locator(".message.running").wait_for()
            button(page, "New conversation").click()
        page.wait_for_timeout(300)
        assert "The server is busy" in send(page, "hello").get_by_role("alert").inner_text()
        page.close()


@pytest.fixture
def locked(tmp_path: Path) -> ServeOptions:
    """A server that knows one key."""
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    return ServeOptions(api_key_file=keys)


def test_a_key_is_asked_for_and_kept_for_the_tab(visit: Visit, locked: ServeOptions) -> None:
    with serving(lambda: models.scripted(locked)) as url:
        page = visit(url, ready=False)
        for key, why in (("wrong", "This server wants an API key."), (KEY, "does not know that API key.")):
            page.get_by_role("dialog").get_by_text(why).wait_for()
            assert focused(page) == "key"
            page.get_by_label("Key", exact=True).fill(key)
            page.keyboard.press("Enter")
            page.get_by_role("dialog").wait_for(state="hidden" if key == KEY else "visible")
        page.locator("#model option").first.wait_for(state="attached")
        assert send(page, "hello").locator(".text").inner_text() == "Good day to you."
        page.reload()
        page.locator("#model option").first.wait_for(state="attached")
        assert page.evaluate("sessionStorage.getItem('edgeship.key')") == KEY
        assert KEY not in page.evaluate("JSON.stringify(localStorage)")


def test_without_a_key_the_page_says_so(visit: Visit, locked: ServeOptions) -> None:
    with serving(lambda: models.scripted(locked)) as url:
        page = visit(url, ready=False)
        page.get_by_role("dialog").wait_for()
        page.keyboard.press("Escape")
        page.locator(".notice").get_by_text("This server wants an API key.").wait_for()
        button(page, "Try again").click()
        page.get_by_role("dialog").wait_for()


def test_another_model(visit: Visit, url: str) -> None:
    page = visit(url)
    page.get_by_label("Model", exact=True).select_option("alias")
    with page.expect_request("**/v1/chat/completions") as request:
        send(page, "hello")
    assert body_of(request.value)["model"] == "alias"
    page.reload()
    page.locator("#model option").first.wait_for(state="attached")
    assert page.get_by_label("Model", exact=True).input_value() == "alias"
