"""promptfoo's files as people write them, and what of them is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeship.errors import EvalInvalid
from edgeship.measure.cases.evalset import EvalCase, passes, read_evalset

HEAD = "prompts: ['Say {{word}}.']\n"
ASSERTED = "    assert: [{type: contains, value: x}]\n"


def write(folder: Path, text: str, name: str = "promptfooconfig.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str) -> tuple[EvalCase, ...]:
    return read_evalset(write(folder, text))


def fault(folder: Path, text: str) -> str:
    path = write(folder, text)
    with pytest.raises(EvalInvalid) as caught:
        read_evalset(path)
    assert caught.value.where == str(path)
    assert caught.value.hint
    return caught.value.what


def test_a_file_as_promptfoo_writes_it(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text(
        json.dumps([{"role": "system", "content": "In {{language}}."}, {"role": "user", "content": "{{input}}"}]),
        encoding="utf-8",
    )
    (tmp_path / "long.txt").write_text("a long\ntext\n", encoding="utf-8")
    said: list[str] = []
    path = write(
        tmp_path,
        """
description: Translations
prompts:
  - 'Translate to {{language}}: {{input}}'
  - {id: file://chat.json, label: chat}
providers: [openai:gpt-5-mini]
defaultTest:
  vars: {language: French}
  assert:
    - {type: max-length, value: 100}
tests:
  - description: short
    vars:
      input: ['Hello', 'A "quote"']
    assert:
      - {type: icontains, value: '{{ input | upper }}', weight: 2, metric: Fidelity}
      - {type: not-contains, value: sorry}
  - vars: {language: Spanish, input: file://long.txt}
    threshold: 0.5
    assert:
      - type: is-json
        value: {type: object, required: [a]}
""",
    )
    cases = read_evalset(path, lambda message, _: said.append(message))
    assert [(case.id, case.slice) for case in cases] == [
        ("tests[0] short (0, 0)", "prompts[0]"),
        ("tests[0] short (0, 1)", "prompts[0]"),
        ("tests[0] short (1, 0)", "chat"),
        ("tests[0] short (1, 1)", "chat"),
        ("tests[1] (0)", "prompts[0]"),
        ("tests[1] (1)", "chat"),
    ]
    assert cases[0].conversation == [{"role": "user", "content": "Translate to French: Hello"}]
    assert cases[3].conversation == [
        {"role": "system", "content": "In French."},
        {"role": "user", "content": 'A "quote"'},
    ]
    assert [each.type for each in cases[0].assertions] == ["max-length", "icontains", "not-contains"]
    assert (cases[0].assertions[1].weight, cases[0].assertions[1].name) == (2, "Fidelity")
    assert passes(cases[0], "HELLO")
    assert not passes(cases[0], "hello, sorry")
    assert cases[4].question == "Translate to Spanish: a long\ntext"
    assert cases[4].threshold == 0.5
    assert passes(cases[4], '{"b": 1}')  # one of two is enough
    assert said == ["note: providers is left aside: the cases are asked of what the command names"]


def test_prompts_in_every_way(tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("First {{word}}\n---\nSecond {{word}}\n", encoding="utf-8")
    (tmp_path / "chat.yaml").write_text("- {role: user, content: 'Third {{word}}'}\n", encoding="utf-8")
    text = """
prompts:
  - file://two.txt
  - chat.yaml
  - raw: '[{"role": "user", "content": "Fourth {{word}}"}]'
    label: fourth
  - '[{% for each in words %}{"role": "user", "content": "{{ each }}"}{% endfor %}]'
tests:
  - vars: {word: hello, words: ['{{word}}']}
    options: {disableVarExpansion: true}
    assert: [{type: equals, value: '{{words | dump}}'}]
"""
    cases = read(tmp_path, text)
    assert [case.question for case in cases] == ["First hello", "Second hello", "Third hello", "Fourth hello", "hello"]
    assert all(passes(case, '["hello"]') for case in cases)


def test_words_that_yaml_once_took_for_others_are_texts(tmp_path: Path) -> None:
    text = """
prompts: ['{{when}} {{day}} {{number}}?']
tests:
  - vars: {when: 12:30, day: 2026-11-27, number: 012}
    assert: [{type: equals, value: Yes}, {type: not-equals, value: true}, {type: max-length, value: 10}]
"""
    [case] = read(tmp_path, text)
    assert case.question == "12:30 2026-11-27 012?"
    assert passes(case, "Yes")
    assert not passes(case, "true")


def test_a_conversation_may_be_written_by_a_template(tmp_path: Path) -> None:
    turns = '{% for turn in turns %}{"role": "user", "content": {{ turn | dump }}},{% endfor %}'
    (tmp_path / "chat.json").write_text(f'[{turns}{{"role": "user", "content": "?"}}]', encoding="utf-8")
    text = """
prompts: [file://chat.json]
tests:
  - {vars: {turns: ['a "b"']}, options: {disableVarExpansion: true}, assert: [{type: is-json}]}
"""
    [case] = read(tmp_path, text)
    assert [turn["content"] for turn in case.conversation] == ['a "b"', "?"]


def test_tests_and_vars_may_lie_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    tests = [{"vars": "file://more/vars.yaml", "assert": [{"type": "equals", "value": "file://more/right.json"}]}]
    (tmp_path / "more" / "tests.json").write_text(json.dumps(tests), encoding="utf-8")
    (tmp_path / "more" / "vars.yaml").write_text("word: hello\n", encoding="utf-8")
    (tmp_path / "more" / "right.json").write_text('{"a": 1}', encoding="utf-8")
    [case] = read(tmp_path, HEAD + "tests: file://more/tests.json\n")
    assert case.question == "Say hello."
    assert passes(case, '{"a": 1.0}')


def test_a_test_may_name_its_prompts_and_leave_out_what_is_asserted_of_all(tmp_path: Path) -> None:
    text = """
prompts: [{raw: one, label: a}, {raw: two, label: b}]
defaultTest: {assert: [{type: equals, value: x}]}
tests:
  - {prompts: [b], options: {disableDefaultAsserts: true}, assert: [{type: equals, value: y}]}
"""
    [case] = read(tmp_path, text)
    assert (case.question, case.slice, case.expected_text) == ("two", "b", "equals 'y'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "line 1"),
        ("[]", "none of promptfoo's"),
        ("prompts: [x]", "none of promptfoo's"),
        ("prompts: [x]\ntests: [&a {}, *a]", "refers to another part"),
        ("prompts: [x]\ntests: []\ntest: 1", "test: this field is not read; did you mean tests?"),
        ("prompts: [x]\nscenarios: []\ntests: []", "scenarios: this field is not read"),
        ("prompts: []\ntests: []", "prompts: there is none"),
        ("prompts: [x]\ntests: []", "the file holds no cases"),
        ("prompts: [3]\ntests: []", "prompts[0]: is 3, and no text"),
        ("prompts: [prompt.py]\ntests: []", "prompt.py is code, which is not run here"),
        ("prompts: [file://../x.txt]\ntests: []", "a file must lie in the folder of this one"),
        ("prompts: [file:///etc/passwd.txt]\ntests: []", "a file must lie in the folder of this one"),
        ("prompts: ['file://*.txt']\ntests: []", "*.txt cannot be read"),
        ("prompts: [x]\ntests: file://tests.csv", "'tests.csv' is none of"),
        (HEAD + "tests:\n  - vars: {word: a}", "tests[0]: nothing is asserted of its answers"),
        (HEAD + "tests:\n  - vars: {wort: a}\n" + ASSERTED, "tests[0]: 'Say {{word}}.' cannot be filled in: 'word'"),
        (HEAD + "tests:\n  - vars: {word: '{{'}\n" + ASSERTED, "cannot be filled in"),
        (HEAD + "tests:\n  - vars: {word: []}\n" + ASSERTED, "tests[0].vars.word: the list is empty"),
        (HEAD + "tests:\n  - vars: {word: file://w.js}\n" + ASSERTED, "tests[0].vars.word: w.js is code"),
        (HEAD + "tests:\n  - var: {word: a}\n" + ASSERTED, "tests[0].var: this field is not read; did you mean vars?"),
        (HEAD + "tests:\n  - options: {transform: x}\n" + ASSERTED, "tests[0].options.transform: this field is not"),
        (HEAD + "tests: [3]", "tests[0]: is 3, and no object"),
        (HEAD + "tests:\n  - vars: {word: a}\n    assert: 3", "tests[0].assert: is 3, and no list"),
        (HEAD + "tests:\n  - {prompts: [b], vars: {word: a}, assert: [{type: is-json}]}", "no prompt has a label of"),
        ("prompts: [[{role: assistant, content: x}]]\ntests: [{assert: [{type: is-json}]}]", "waits for no answer"),
    ],
)
def test_what_is_not_read_is_told_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    assert said in fault(tmp_path, text)


@pytest.mark.parametrize(
    ("asserted", "said"),
    [
        ("{type: llm-rubric, value: is kind}", "llm-rubric is not read: another model grades it"),
        ("{type: not-factuality, value: x}", "not-factuality is not read: another model grades it"),
        ("{type: javascript, value: output == 1}", "javascript is not read: code of the file's would be run"),
        ("{type: python, value: file://x.py}", "python is not read: code of the file's would be run"),
        ("{type: cost, threshold: 1}", "cost is not read: answers of a model of your own have no price"),
        ("{type: assert-set, assert: []}", "assert-set is not read: assertions are not grouped"),
        ("{type: 'trace-span-count', value: 1}", "trace-span-count is not read: traces are not read"),
        ("{type: contians, value: x}", "there is no assertion 'contians'; did you mean contains?"),
        ("{type: javascipt, value: x}", "there is no assertion 'javascipt'; did you mean javascript?"),
        ("{type: contains, value: x, transform: y}", "transform: this field is not read"),
        ("{type: contains}", "assert.0: contains needs a value"),
        ("{type: regex, value: '(?<=a)b'}", "look-around"),
        ("{value: x}", "assert[0].type: is None, and no text"),
        ("x", "tests[0].assert[0]: is 'x', and no object"),
    ],
)
def test_assertions_that_are_not_read(asserted: str, said: str, tmp_path: Path) -> None:
    what = fault(tmp_path, f"{HEAD}tests:\n  - vars: {{word: a}}\n    assert: [{asserted}]\n")
    assert what.startswith("tests[0]")
    assert said in what


def test_several_faults_are_told_together(tmp_path: Path) -> None:
    graded = "  - {vars: {word: a}, assert: [{type: llm-rubric, value: x}]}\n"
    what = fault(tmp_path, HEAD + "tests:\n" + graded * 7)
    assert what.count("llm-rubric is not read") == 5
    assert what.endswith("; and 2 more")


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    (inside / "prompt.txt").symlink_to(tmp_path / "secret.txt")
    assert "leads out of its folder" in fault(inside, "prompts: [file://prompt.txt]\ntests: []\n")


def test_too_many_cases(tmp_path: Path) -> None:
    variables = "\n".join(f"      v{number}: [{', '.join('a' * 50)}]" for number in range(4))
    text = f"prompts: [x]\ntests:\n  - vars:\n{variables}\n    assert: [{{type: is-json}}]\n"
    assert "more than 100,000 cases" in fault(tmp_path, text)


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["{{x}}", "{% if", "file://x", "contains", "not-regex", "x", "is-json", "prompts[0]", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["prompts", "tests", "vars", "assert", "type", "value", "options", "defaultTest", "threshold"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(values, values, values)
def test_nothing_but_eval_invalid(tmp_path_factory: pytest.TempPathFactory, one: Any, other: Any, third: Any) -> None:
    config = {"prompts": one, "tests": other, "defaultTest": third}
    path = write(tmp_path_factory.getbasetemp(), json.dumps(config), "fuzzed.yaml")  # JSON is YAML
    try:
        assert read_evalset(path)
    except EvalInvalid:
        return
