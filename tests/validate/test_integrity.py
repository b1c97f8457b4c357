"""Integrity finds every fault that belongs to it, and nothing in packages that are as they should be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeship.engine import prompt_readers
from edgeship.engine.api import Conversation, Token
from edgeship.errors import DependencyMissing, EngineFailed, MemoryShort, PackageRefused, UsageError
from edgeship.package import genai_config, inference_model, manifest, prompt_parts
from edgeship.package.template import Message
from edgeship.progress import silent
from edgeship.settings import Settings
from edgeship.store import packages
from edgeship.targets import Target
from edgeship.validate.integrity import (
    CHECK,
    IntegrityBounds,
    declared,
    harmless,
    opens,
    prompts,
    vocabulary,
    whole,
)
from edgeship.validate.integrity.looked_at import LookedAt
from edgeship.validate.run import validate
from edgeship.validate.subject import Against, Subject
from edgeship.validate.verdict import Finding, Verdict
from tests.chat_templates import FAMILIES
from tests.validate import fault_packages
from tests.validate.fault_packages import FAULTS, Fault

BOUNDS = IntegrityBounds()
# Which finding each fault belongs to.
FOUND_AS = {
    "flipped-weight": "digests",
    "flipped-small-file": "digests",
    "added-file": "manifest-complete",
    "bos-doubled": "bos-once",
    "template-of-another-family": "control-tokens",
    "template-half-replaced": "template-fidelity",
    "eos-missing": "stop-tokens",
    "eos-missing-in-one-file": "stop-tokens",
    "lost-merge": "tokens-are-made",
    "lost-last-merge": "tokens-are-made",
    "custom-operators": "stays-in-folder",
    "executable": "no-code",
    "python-code": "no-code",
    "data-outside": "stays-in-folder",
    "link-outside": "stays-in-folder",
    "foreign-operator": "known-operators",
}


def findings(folder: Path) -> Iterator[Finding]:
    """All but that of an answer, which needs an engine."""
    looked = LookedAt(folder)
    yield from whole.findings(looked, silent)
    yield from harmless.findings(looked)
    yield from prompts.findings(looked, BOUNDS, strict=True)
    yield from vocabulary.findings(looked, BOUNDS, "quick")
    yield from declared.findings(looked, BOUNDS)


def failing(folder: Path) -> dict[str, str]:
    """What fails, and why; what cannot be read ends the list, as it ends a part of the check."""
    found = {}
    try:
        for finding in findings(folder):
            assert finding.outcome != "undecided", finding
            if finding.outcome == "fail":
                found[finding.name] = finding.told
    except (EngineFailed, PackageRefused):
        assert found
    return found


@pytest.fixture
def no_other_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-genai's reader takes a second to start; what it finds has tests of its own."""

    @contextmanager
    def nobody(*_: object) -> Iterator[dict[str, Any]]:
        yield {}

    monkeypatch.setattr(prompt_readers, "others", nobody)


def test_every_fault_of_integrity_has_its_finding() -> None:
    assert {fault.name for fault in FAULTS if fault.caught_by == "integrity"} == set(FOUND_AS)


@pytest.mark.usefixtures("no_other_readers")
@pytest.mark.parametrize("name", [name for name, finding in FOUND_AS.items() if finding != "template-fidelity"])
def test_a_fault_is_found(name: str, example: Path, tmp_path: Path) -> None:
    folder = fault_packages.named(name).package(example, tmp_path / "package")
    assert FOUND_AS[name] in failing(folder)


@pytest.mark.usefixtures("no_other_readers")
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.caught_by != "integrity"], ids=lambda f: f.name)
def test_what_another_check_must_find_is_none_of_its(fault: Fault, example: Path, tmp_path: Path) -> None:
    assert failing(fault.package(example, tmp_path / "package")) == {}


@pytest.mark.usefixtures("no_other_readers")
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.sealed], ids=lambda f: f.name)
def test_what_was_altered_after_the_build_is_told_by_digests(fault: Fault, example: Path, tmp_path: Path) -> None:
    assert {"digests", "manifest-complete"} & set(failing(fault.package(example, tmp_path / "package", sealed=False)))


def test_a_template_that_was_replaced_in_one_file_is_told_by_the_readers(example: Path, tmp_path: Path) -> None:
    folder = fault_packages.named("template-half-replaced").package(example, tmp_path / "package")
    assert "onnxruntime-genai has" in failing(folder)["template-fidelity"]


def test_the_example_passes_and_answers(example: Path, settings: Settings) -> None:
    with Subject(Target("folder", str(example), settings), Against(effort="quick")) as subject:
        [result] = validate(subject, checks=(CHECK,)).checks
    assert result.outcome == "pass", result
    assert {finding.outcome for finding in result.findings} == {"pass"}
    assert result.findings[-1].name == "opens"


def test_what_cannot_be_opened_is_not_looked_at_by_other_checks(
    example: Path, tmp_path: Path, settings: Settings
) -> None:
    folder = fault_packages.named("custom-operators").package(example, tmp_path / "package")
    after = CHECK.__class__("domain", "Is never asked", CHECK.bounds, lambda *_: pytest.fail("it was"))
    with Subject(Target("folder", str(folder), settings)) as subject:
        verdict = validate(subject, checks=(CHECK, after))
    integrity, other = verdict.checks
    names = [finding.name for finding in integrity.findings if finding.outcome == "fail"]
    assert names == ["no-code", "stays-in-folder", "opens"]
    assert (other.reason or "").startswith("the target cannot be opened: genai_config.json has")


def test_an_installed_package_is_the_one_that_was_installed(example: Path, settings: Settings) -> None:
    installed = packages.install(example, settings.cache_dir)[0].folder
    assert [found.outcome for found in whole.findings(LookedAt(installed), silent)] == ["pass"] * 3
    fault_packages.lose_merge(installed)
    fault_packages.seal(installed)
    assert [found.name for found in whole.findings(LookedAt(installed), silent) if found.outcome == "fail"] == [
        "as-installed"
    ]


def only_integrity(target: Target) -> dict[str, str]:
    """What fails of a target, by the whole check; no engine starts for what cannot be opened."""
    with Subject(target, Against(effort="quick")) as subject:
        [result] = validate(subject, checks=(CHECK,)).checks
        assert subject.fault is not None
    return {finding.name: finding.told for finding in result.findings if finding.outcome == "fail"}


def test_a_manifest_that_cannot_be_read_is_told(example: Path, tmp_path: Path, settings: Settings) -> None:
    folder = shutil.copytree(example, tmp_path / "package")
    (folder / manifest.MANIFEST_NAME).write_text("{", encoding="utf-8")
    found = only_integrity(Target("folder", str(folder), settings))
    assert "the manifest cannot be read" in found["digests"]
    assert "opens" in found


# --- folders of other tools ------------------------------------------------------------------------------------------


def of_another_tool(example: Path, folder: Path) -> Path:
    shutil.copytree(example, folder)
    for name in (manifest.MANIFEST_NAME, inference_model.FILE_NAME, declared.GENERATION):
        (folder / name).unlink()
    return folder


def test_a_folder_of_another_tool_is_looked_at_as_far_as_it_goes(example: Path, tmp_path: Path) -> None:
    found = {one.name: one for one in findings(of_another_tool(example, tmp_path / "package"))}
    assert {name for name, one in found.items() if one.outcome == "skipped"} == {"digests"}
    assert {one.outcome for one in found.values()} == {"skipped", "pass"}


@pytest.mark.usefixtures("no_other_readers")
def test_one_that_was_installed_stays_of_another_tool(example: Path, tmp_path: Path, settings: Settings) -> None:
    folder = of_another_tool(example, tmp_path / "package")
    (folder / declared.GENERATION).write_text('{"do_sample": true, "eos_token_id": 1}')
    installed = packages.install(folder, settings.cache_dir)[0].folder
    assert LookedAt(installed).package is not None
    assert failing(installed) == {}


def test_readers_of_another_tools_folder_may_differ(example: Path, tmp_path: Path) -> None:
    """Edgeship's own engine answers, with its own reading of the template."""
    folder = of_another_tool(example, tmp_path / "package")
    fault_packages.half_replaced_template(folder)
    found = {one.name: one for one in prompts.findings(LookedAt(folder), BOUNDS, strict=False)}
    assert found["template-fidelity"].outcome == "skipped"
    assert "others make other prompts of it" in found["template-fidelity"].told


WITHOUT_SYSTEM = {
    "leaves it out": "{% if message['role'] != 'system' %}",
    "refuses it": "{% if message['role'] == 'system' %}{{ raise_exception('no') }}{% else %}",
}


@pytest.mark.parametrize("begin", WITHOUT_SYSTEM.values(), ids=list(WITHOUT_SYSTEM))
@pytest.mark.parametrize("stale", [True, False])
def test_a_reader_that_writes_system_turns_which_the_template_does_not(
    begin: str, stale: bool, example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "package"

    def alter(copy: Path) -> None:
        parts = (copy / inference_model.FILE_NAME).read_bytes()
        words = (copy / "chat_template.jinja").read_text(encoding="utf-8")
        loop = "{% for message in messages %}"
        cut = words.replace(loop, loop + begin).replace("{% endfor %}", "{% endif %}{% endfor %}")
        fault_packages.with_template(copy, cut)
        if stale:
            (copy / inference_model.FILE_NAME).write_bytes(parts)

    Fault("without system", "integrity", alter).package(example, folder)

    @contextmanager
    def parts_alone(*_: object) -> Iterator[dict[str, Any]]:
        codec, parts = LookedAt(folder).codec, inference_model.read_parts(folder)
        assert parts is not None

        def refusing(turns: Sequence[Message]) -> Sequence[int]:
            if turns[0]["role"] == "system":
                raise EngineFailed("onnxruntime-genai failed: no")
            return codec.render(Conversation(turns), trusting=True).tokens

        yield {
            "refusing": refusing,
            "parts": lambda turns: codec.tokenizer.encode(prompt_parts.assemble(parts, turns), special=True),
        }

    monkeypatch.setattr(prompt_readers, "others", parts_alone)
    found = {one.name: one for one in prompts.findings(LookedAt(folder), BOUNDS, strict=True)}["template-fidelity"]
    assert (found.outcome, "parts writes system turns" in found.told) == (
        ("fail", True) if stale else ("pass", False)
    ), found.told


# --- prompts and stop tokens -----------------------------------------------------------------------------------------


def edited(example: Path, folder: Path, name: str, edit: Callable[[dict[str, Any]], None]) -> Path:
    """A sealed copy of the example with one of its JSON files changed."""

    def alter(copy: Path) -> None:
        document = json.loads((copy / name).read_bytes())
        edit(document)
        (copy / name).write_text(json.dumps(document), encoding="utf-8")

    return Fault("edited", "integrity", alter).package(example, folder)


@pytest.mark.usefixtures("no_other_readers")
@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ([], "names no token that ends an answer"),
        ([2, 0, 5], "and is none that stands apart from texts"),
        ([2, 0, 100_000], "The token 100000 is to stop the model"),
        ([0], "ends an answer with <|im_end|> (2), and only <|endoftext|> (0) stops the model"),
    ],
)
def test_stop_tokens(ends: list[int], told: str, example: Path, tmp_path: Path) -> None:
    folder = edited(
        example,
        tmp_path / "package",
        genai_config.FILE_NAME,
        lambda document: document["model"].update(eos_token_id=ends),
    )
    assert told in failing(folder)["stop-tokens"]


# Turns in plain text, such as Zephyr's: they look like tokens and are none, and each ends with a real one.
@pytest.mark.usefixtures("no_other_readers")
def test_turns_in_plain_text_are_no_fault(example: Path, tmp_path: Path) -> None:
    folder = fault_packages.named("template-of-another-model").package(example, tmp_path / "package")
    assert "<|assistant|>" in (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert failing(folder) == {}


@pytest.mark.usefixtures("no_other_readers")
@pytest.mark.parametrize("family", ["llama3", "gemma", "phi3"])
def test_a_template_of_another_family_is_found(family: str, example: Path, tmp_path: Path) -> None:
    words = FAMILIES[family].template.replace("bos_token", "'<x>'").replace("eos_token", "'<y>'")

    def alter(folder: Path) -> None:
        fault_packages.with_template(folder, words)

    folder = Fault("another", "integrity", alter).package(example, tmp_path / "package")
    assert {"control-tokens", "stop-tokens"} <= set(failing(folder))


# --- what is stated --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_other_readers")
@pytest.mark.parametrize(
    ("part", "changes", "finding", "told"),
    [
        ("model", {"context_length": 1024}, "context", "The manifest states a context of 2,048 tokens"),
        ("search", {"max_length": 4096}, "context", "Answers may end at token 4,096, and the context has 2,048"),
        ("search", {"do_sample": True}, "sampling-defaults", "by generation_config.json greedily"),
        ("search", {"repetition_penalty": 1.2}, "sampling-defaults", "repetition_penalty is 1.2 in genai_config.json"),
        ("search", {"repetition_penalty": 9.0}, "sampling-defaults", "The repetition penalty is 9, and 2 is the most"),
        ("search", {"do_sample": True, "temperature": 5.0}, "sampling-defaults", "It samples at temperature 5"),
        ("search", {"min_length": 1500}, "sampling-defaults", "search.min_length in genai_config.json is 1500"),
        ("search", {"num_beams": 8}, "sampling-defaults", "onnxruntime-genai alone obeys: write 1, or take it out"),
        ("search", {"length_penalty": 2.0}, "sampling-defaults", "search.length_penalty in genai_config.json is 2.0"),
        ("search", {"no_repeat_ngram_size": 3}, "sampling-defaults", "write 0, or take it out"),
        ("search", {"diversity_penalty": 0.5}, "sampling-defaults", "search.diversity_penalty"),
        ("search", {"random_seed": 7}, "sampling-defaults", "write -1, or take it out"),
        ("search", {"new_penalty": 2}, "sampling-defaults", "onnxruntime-genai alone obeys: take it out"),
    ],
)
def test_what_is_stated(
    part: str, changes: dict[str, Any], finding: str, told: str, example: Path, tmp_path: Path
) -> None:
    folder = edited(
        example, tmp_path / "package", genai_config.FILE_NAME, lambda document: document[part].update(changes)
    )
    assert told in failing(folder)[finding]


def test_which_files_state_the_context_is_told(example: Path, tmp_path: Path) -> None:
    """Those of tokenizers and checkpoints state others in good models: Qwen2.5's tokenizers four times as much."""
    folder = edited(
        example, tmp_path / "package", declared.GENERATION, lambda document: document.update(max_length=9999)
    )
    [context, _] = declared.findings(LookedAt(folder), BOUNDS)
    assert context.told.startswith("The manifest and genai_config.json state a context of 2,048 tokens")
    assert "what other files state, which was not compared" in context.told


@pytest.mark.usefixtures("no_other_readers")
def test_settings_that_change_nothing_may_be_stated(example: Path, tmp_path: Path) -> None:
    neutral = {"diversity_penalty": 0.0, "length_penalty": 1.0, "no_repeat_ngram_size": 0, "chunk_size": 256}
    folder = edited(
        example, tmp_path / "package", genai_config.FILE_NAME, lambda document: document["search"].update(neutral)
    )
    assert failing(folder) == {}


# --- an answer -------------------------------------------------------------------------------------------------------


def answering(*steps: Token | Exception) -> Any:
    """A subject that answers with these."""

    def converse(*_: object, **__: object) -> Iterator[Token]:
        for step in steps:
            if isinstance(step, Exception):
                raise step
            yield step

    return SimpleNamespace(chat=SimpleNamespace(converse=converse), folder=None)


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ((Token(1, "Hi"), Token(2, "", "stop")), "pass"),
        ((Token(None, "Hi", "length"),), "pass"),
        ((Token(1, "Hi", "deadline"),), "fail"),
        ((Token(1, "Hi"),), "fail"),
        ((Token(1, "Hi"), EngineFailed("it died")), "fail"),
    ],
)
def test_one_question_is_answered(steps: tuple[Any, ...], outcome: str) -> None:
    [found] = opens.findings(answering(*steps))
    assert found.outcome == outcome
    assert [evidence.id for evidence in found.evidence] == (["integrity/opens"] if outcome == "fail" else [])


def opened_with(error: Exception, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Verdict:
    """What the check says of a server whose opening raises this."""

    def fails(*_: object) -> Any:
        raise error

    monkeypatch.setattr(Subject, "_opened", fails)
    with Subject(Target("url", "http://127.0.0.1:9/v1", settings)) as subject:
        return validate(subject, checks=(CHECK,))


@pytest.mark.parametrize("error", [MemoryShort("too little memory"), DependencyMissing("httpx2 is not installed")])
def test_what_this_machine_lacks_is_undecided(
    error: Exception, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    assert opened_with(error, monkeypatch, settings).outcome == "undecided"
    with pytest.raises(type(error)):
        list(opens.findings(answering(Token(1, "Hi"), error)))


def test_a_server_of_several_models_is_asked_wrongly(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    with pytest.raises(UsageError, match="2 models"):
        opened_with(UsageError("the server has 2 models: a, b"), monkeypatch, settings)


def test_a_server_that_answers_is_not_called_whole() -> None:
    [found] = CHECK.run(answering(Token(1, "Hi", "stop")), IntegrityBounds(), silent)
    assert (found.name, found.outcome) == ("files", "skipped")
    assert found.told.startswith("A server's files cannot be looked at. It opens and answers")


def test_a_target_that_cannot_be_opened_fails(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    found = opened_with(EngineFailed("it cannot be loaded"), monkeypatch, settings)
    assert (found.outcome, found.checks[0].findings[-1].name) == ("fail", "opens")
