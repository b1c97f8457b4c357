"""promptfoo's YAML as examples of an evaluation: prompts with their variables filled in, and what is asserted of them.

Read is what is decided by the answer alone. What another model grades, or code decides, is refused by name; so is any
file that does not lie in the folder of the YAML.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeship.errors import EvalInvalid
from edgeship.measure.cases.assertions import NOT, is_known, unknown
from edgeship.system import foreign, json_file, yaml_file
from edgeship.system.border import said_by
from edgeship.system.fields import shown
from edgeship.system.text import meant

if TYPE_CHECKING:
    import jinja2

SUFFIXES = (".yaml", ".yml")
MOST_CASES = 100_000
_MOST_BYTES = 1 << 20
_FILE = "file://"
_TEXTS = (".txt", ".md", ".j2", ".jinja", ".jinja2")
_DOCUMENTS = (*SUFFIXES, ".json", ".jsonl")
_CODE = (".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", ".py", ".rb", ".sh")
HINT = (
    "Of promptfoo's files prompts, tests, vars, defaultTest and assertions that look at the answer alone are read, "
    "and files beside this one; see docs/evaluations.md."
)
_OF_FILE = {"prompts", "tests", "defaultTest"}
_LEFT_ASIDE = {"description", "tags", "metadata", "env", "evaluateOptions", "outputPath", "sharing", "derivedMetrics"}
_LEFT_ASIDE |= {"writeLatestResults", "commandLineOptions", "$schema", "redteam", "tracing"}
_PROVIDERS = {"providers", "targets", "provider"}
_OF_TEST = {"description", "vars", "assert", "threshold", "options", "metadata", "prompts", *_PROVIDERS}
_OF_OPTIONS = {"disableVarExpansion", "disableDefaultAsserts"}
# What only says how other models are asked to grade.
_OF_GRADERS = {"provider", "rubricPrompt", "factuality", *_PROVIDERS}
_OF_ASSERTION = {"type", "value", "threshold", "weight", "metric", "path", "unit"}
_SAME = {"similar:cosine": "similar"}
# Their value is a schema, in which braces are no template.
_SCHEMATIC = {"is-json", "contains-json", "json-schema"}

_GRADED = "another model grades it; say what a right answer has, with equals, contains-all, json-schema or similar"
_NOT_PARSED = "this language is not parsed here; look for what must be there, with regex or contains-all"
_RUN = "code of the file's would be run; say it with regex, json-path, json-schema or contains-all"
_NOT_READ = {
    name: why
    for names, why in (
        ("llm-rubric g-eval factuality model-graded-factuality model-graded-closedqa answer-relevance", _GRADED),
        ("context-recall context-relevance context-faithfulness conversation-relevance select-best", _GRADED),
        ("max-score search-rubric agent-rubric pi classifier moderation guardrails is-refusal", _GRADED),
        ("javascript python ruby webhook", _RUN),
        ("cost", "answers of a model of your own have no price; bound them with latency, or max-length in tokens"),
        ("perplexity perplexity-score", "log-probabilities are compared by `edgeship compare`"),
        ("assert-set", "assertions are not grouped; put them into assert, with weights and the test's threshold"),
        ("rouge-n bleu gleu meteor similar:dot similar:euclidean", "texts are compared by similar and levenshtein"),
        ("is-sql contains-sql is-xml contains-xml is-html contains-html", _NOT_PARSED),
        ("tool-call-f1", "calls are compared by tool-calls"),
    )
    for name in names.split()
}
_TRACED = ("trace-", "trajectory:", "skill-")


@dataclass(frozen=True)
class Reading:
    """What a file holds.

    lines: its cases as JSON, each with its place. notes: what is left aside. faults: what is refused.
    """

    lines: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class _Unread(ValueError):
    """What is not read of a file, with its place in it."""


@dataclass(frozen=True)
class _Prompt:
    """content: a text, or a conversation; strings in both are templates."""

    label: str
    content: str | Sequence[Mapping[str, Any]]


def read(path: Path) -> Reading:
    """The cases of a file, each prompt with each test. Raises EvalInvalid for a file that is none of promptfoo's."""
    try:
        config = json.loads(yaml_file.read_as_json(path, most_bytes=_MOST_BYTES, plainly=True))
    except OSError as error:
        what = f"the evaluation file cannot be read: {error.strerror or error}"
        raise EvalInvalid(what, where=str(path), hint="Check the path given to --eval.") from error
    except ValueError as error:
        raise EvalInvalid(str(error), where=str(path), hint=HINT) from error
    if not isinstance(config, dict) or "tests" not in config or "prompts" not in config:
        what = "it is YAML without prompts and tests, and so none of promptfoo's"
        raise EvalInvalid(what, where=str(path), hint=HINT)
    reading = Reading()
    try:
        _require_known("", config, _OF_FILE | _LEFT_ASIDE | _PROVIDERS)
        folder = path.parent
        prompts = list(_prompts(config["prompts"], folder))
        default = _object("defaultTest", _loaded("defaultTest", config.get("defaultTest") or {}, folder))
        tests = list(_tests(config["tests"], folder))
    except _Unread as error:
        reading.faults.append(str(error))
        return reading
    if named := sorted(_PROVIDERS & config.keys()):
        reading.notes.append(f"{named[0]} is left aside: the cases are asked of what the command names")
    for place, test in tests:
        try:
            for example in _examples(place, test, default, prompts, folder):
                reading.lines.append((place, json.dumps(example)))
        except _Unread as error:
            reading.faults.append(str(error))
        if len(reading.lines) > MOST_CASES:
            reading.faults.append(f"prompts, tests and vars make more than {MOST_CASES:,} cases")
            break
    return reading


# --- prompts -------------------------------------------------------------------------------------------------------


def _prompts(stated: Any, folder: Path) -> Iterator[_Prompt]:
    listed = stated if isinstance(stated, list) else [stated]
    if not listed:
        raise _Unread("prompts: there is none")
    for number, each in enumerate(listed):
        yield from _of_one(f"prompts[{number}]", each, folder)


def _of_one(place: str, stated: Any, folder: Path) -> Iterator[_Prompt]:
    label = place
    if isinstance(stated, dict):
        _require_known(place, stated, {"raw", "id", "label"})
        label = _text(f"{place}.label", stated.get("label", label))
        stated = stated.get("raw", stated.get("id"))
    if isinstance(stated, list):
        yield _Prompt(label, _messages(place, stated))
        return
    text = _text(place, stated)
    if not text.startswith(_FILE) and not _names_a_file(text):
        yield _Prompt(label, _conversation_in(place, text))
        return
    name = text.removeprefix(_FILE)
    if name.endswith(_TEXTS):
        parts = [part.strip() for part in _file_text(place, name, folder).split("\n---\n")]
        for number, part in enumerate(part for part in parts if part):
            yield _Prompt(label if len(parts) == 1 else f"{label}[{number}]", _conversation_in(place, part))
        return
    if name.endswith(".json"):  # which may have a template in it, and be none yet
        yield _Prompt(label, _conversation_in(place, _file_text(place, name, folder)))
        return
    yield _Prompt(label, _messages(place, _loaded(place, f"{_FILE}{name}", folder)))


def _names_a_file(text: str) -> bool:
    """A prompt that is nothing but the name of a file, which promptfoo reads, too."""
    return " " not in text and "{" not in text and text.endswith((*_TEXTS, *_DOCUMENTS, *_CODE))


def _conversation_in(place: str, text: str) -> str | list[Any]:
    """A conversation that is written in JSON as such, any other text as it is."""
    try:
        found = json_file.parse(text)
    except ValueError:
        return text
    return _messages(place, found) if isinstance(found, list) and found and isinstance(found[0], dict) else text


def _messages(place: str, found: Any) -> list[Any]:
    if not isinstance(found, list) or not found or not all(isinstance(each, dict) for each in found):
        raise _Unread(f"{place}: is {shown(found)}, and no list of messages")
    return found


# --- tests ---------------------------------------------------------------------------------------------------------


def _tests(stated: Any, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, each in enumerate(stated if isinstance(stated, list) else [stated]):
        place = f"tests[{number}]"
        found = _loaded(place, each, folder)
        if found is each:
            yield place, _object(place, each)
        else:
            for inner, test in enumerate(found if isinstance(found, list) else [found]):
                yield f"{place}[{inner}]", _object(f"{place}[{inner}]", test)


def _examples(
    place: str, test: Mapping[str, Any], default: Mapping[str, Any], prompts: Sequence[_Prompt], folder: Path
) -> Iterator[dict[str, Any]]:
    """A test as examples: one for each prompt and each choice of variables that are lists."""
    options: dict[str, Any] = {}
    for where, part in (("defaultTest", default), (place, test)):
        _require_known(where, part, _OF_TEST)
        stated = _object(f"{where}.options", part.get("options") or {})
        _require_known(f"{where}.options", stated, _OF_OPTIONS | _OF_GRADERS)
        options |= stated
    variables: dict[str, Any] = {}
    for where, part in (("defaultTest.vars", default), (f"{place}.vars", test)):
        stated = _object(where, _loaded(where, part.get("vars") or {}, folder))
        variables |= {str(name): _loaded(f"{where}.{name}", value, folder) for name, value in stated.items()}
    asserted = [] if options.get("disableDefaultAsserts") is True else _listed("defaultTest", default)
    asserted = [*asserted, *_listed(place, test)]
    if not asserted:
        raise _Unread(f"{place}: nothing is asserted of its answers")
    wanted = _asked_prompts(place, test, default, prompts)
    choices = [variables] if options.get("disableVarExpansion") is True else list(_choices(place, variables))
    threshold = test.get("threshold", default.get("threshold"))
    called = _text(f"{place}.description", test.get("description", place))
    name = place if called == place else f"{place} {called}"
    for (number, prompt), (way, chosen) in itertools.product(enumerate(wanted), enumerate(choices)):
        several = [str(each) for each, many in ((number, len(wanted) > 1), (way, len(choices) > 1)) if many]
        fill = _Filling(place, chosen)
        example: dict[str, Any] = {
            "id": f"{name} ({', '.join(several)})" if several else name,
            "messages": _asked(fill, prompt),
            "assert": [_assertion(where, each, fill, folder) for where, each in asserted],
        }
        if len(prompts) > 1:
            example["slice"] = prompt.label
        if threshold is not None:
            example["threshold"] = threshold
        yield example


def _asked_prompts(
    place: str, test: Mapping[str, Any], default: Mapping[str, Any], prompts: Sequence[_Prompt]
) -> list[_Prompt]:
    """Those that a test names by their labels; all where it names none."""
    named = test.get("prompts", default.get("prompts"))
    if named is None:
        return list(prompts)
    found = [prompt for prompt in prompts if prompt.label in (named if isinstance(named, list) else [named])]
    if not found:
        raise _Unread(f"{place}.prompts: no prompt has a label of {shown(named)}")
    return found


def _choices(place: str, variables: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A variable that is a list has one of its items in each case."""
    lists = {name: value for name, value in variables.items() if isinstance(value, list)}
    count = 1
    for name, value in lists.items():
        count *= len(value)
        if not value:
            raise _Unread(f"{place}.vars.{name}: the list is empty")
    if count > MOST_CASES:
        raise _Unread(f"{place}.vars: the lists make more than {MOST_CASES:,} cases")
    for chosen in itertools.product(*lists.values()):
        yield {**variables, **dict(zip(lists, chosen, strict=True))}


def _asked(fill: _Filling, prompt: _Prompt) -> list[Any]:
    """The messages of a prompt, which a template may have written in JSON."""
    filled = fill.all_of(prompt.content)
    found = _conversation_in(fill.place, filled) if isinstance(filled, str) else filled
    turns = [{"role": "user", "content": found}] if isinstance(found, str) else found
    if turns[-1].get("role") == "assistant":
        raise _Unread(f"{fill.place}: {prompt.label} ends with the assistant, and waits for no answer")
    return turns


# --- assertions ----------------------------------------------------------------------------------------------------


def _listed(place: str, test: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    stated = test.get("assert") or []
    if not isinstance(stated, list):
        raise _Unread(f"{place}.assert: is {shown(stated)}, and no list")
    places = [f"{place}.assert[{number}]" for number in range(len(stated))]
    return [(where, _object(where, each)) for where, each in zip(places, stated, strict=True)]


def _assertion(place: str, stated: Mapping[str, Any], fill: _Filling, folder: Path) -> dict[str, Any]:
    """An assertion in our words. What its kind does not read is refused where the case is made."""
    named = _text(f"{place}.type", stated.get("type"))
    base = named.removeprefix(NOT)
    if why := _NOT_READ.get(base) or ("traces are not read" if base.startswith(_TRACED) else None):
        raise _Unread(f"{place}: {named} is not read: {why}")
    name = _SAME.get(base, base)
    if not is_known(name):
        raise _Unread(f"{place}: {unknown(named, _NOT_READ)}")
    _require_known(place, stated, _OF_ASSERTION | _OF_GRADERS)
    kept = {key: value for key, value in stated.items() if key in _OF_ASSERTION}
    if "value" in kept:
        value = _loaded(f"{place}.value", kept["value"], folder)
        kept["value"] = value if name in _SCHEMATIC and not isinstance(value, str) else fill.all_of(value)
    return kept | {"type": named.replace(base, name)}


class _Filling:
    """Fills the variables of one case in. Raises _Unread for a template that cannot be, and a variable that is not."""

    def __init__(self, place: str, variables: Mapping[str, Any]) -> None:
        self.place = place
        self._variables = dict(variables)
        # Variables may name others.
        self._variables = {name: self.all_of(value) for name, value in variables.items()}

    def __call__(self, template: str) -> str:
        if "{{" not in template and "{%" not in template and "{#" not in template:
            return template
        try:
            return rendered(template, self._variables)
        except Exception as error:  # whatever a stranger's template does
            raise _Unread(f"{self.place}: {shown(template)} cannot be filled in: {said_by(error)}") from error

    def all_of(self, value: Any) -> Any:
        """A value with every text in it filled in."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, list):
            return [self.all_of(each) for each in value]
        if isinstance(value, dict):
            return {key: self.all_of(each) for key, each in value.items()}
        return value


def rendered(template: str, variables: Mapping[str, Any]) -> str:
    """A template filled in, in the sandbox that chat templates have. Raises what that and Jinja raise."""
    from edgeship.package import sandbox

    with sandbox.budget():
        return _compiled(template).render(variables)


@functools.lru_cache(maxsize=256)
def _compiled(template: str) -> jinja2.Template:
    return _environment().from_string(template)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    from edgeship.package import sandbox

    environment = sandbox.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.add_filter("dump", lambda value: json.dumps(value, ensure_ascii=False))  # as Nunjucks has it
    return environment


# --- files and fields ----------------------------------------------------------------------------------------------


def _loaded(place: str, stated: Any, folder: Path) -> Any:
    """What a file beside this one holds, where one is named; all else as it is."""
    if not isinstance(stated, str) or not stated.startswith(_FILE):
        return stated
    name = stated.removeprefix(_FILE)
    if not name.endswith(_DOCUMENTS):
        return _file_text(place, name, folder).strip()
    text = _file_text(place, name, folder)
    try:
        if name.endswith(".jsonl"):
            return [json_file.parse(line) for line in text.split("\n") if line.strip()]
        return json_file.parse(text) if name.endswith(".json") else json.loads(yaml_file.as_json(text, plainly=True))
    except ValueError as error:
        raise _Unread(f"{place}: {name}: {error}") from error


def _file_text(place: str, name: str, folder: Path) -> str:
    relative = name.removeprefix("./")
    if relative.endswith(_CODE):
        raise _Unread(f"{place}: {name} is code, which is not run here")
    if not relative.endswith((*_TEXTS, *_DOCUMENTS)):
        raise _Unread(f"{place}: {shown(name)} is none of {', '.join((*_TEXTS, *_DOCUMENTS))}")
    if not foreign.stays_inside(relative):
        raise _Unread(f"{place}: {shown(name)} is not read: a file must lie in the folder of this one")
    try:
        return foreign.read_text(folder / relative, folder=folder, most_bytes=_MOST_BYTES)
    except (OSError, ValueError) as error:
        raise _Unread(f"{place}: {name} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _require_known(place: str, stated: Mapping[str, Any], known: set[str]) -> None:
    for name in stated:
        if name not in known:
            close = meant(str(name), known)
            more = f"; did you mean {close}?" if close else ""
            raise _Unread(f"{place}{'.' if place else ''}{name}: this field is not read{more}")


def _object(place: str, stated: Any) -> dict[str, Any]:
    if not isinstance(stated, dict):
        raise _Unread(f"{place}: is {shown(stated)}, and no object")
    return stated


def _text(place: str, stated: Any) -> str:
    if not isinstance(stated, str) or not stated.strip():
        raise _Unread(f"{place}: is {shown(stated)}, and no text")
    return stated
