"""Writes the pages of docs/ that the code knows best, by `make docs`; a test compares."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from edgeship.builder.description import RECURRENCES
from edgeship.checkpoint.families import FAMILIES
from edgeship.checkpoint.traits import Family
from edgeship.cli.app import app
from edgeship.errors import all_errors
from edgeship.validate.bounds import bounds_of
from edgeship.validate.checks import CHECKS
from edgeship.validate.edges.catalogue import ROWS
from edgeship.validate.edges.row import KINDS
from edgeship.validate.gate import REASONS, allowed

DOCS = Path(__file__).parent
BEGIN, END = "<!-- made from the code by `make docs` -->", "<!-- until here -->"
EXIT_CODES = {
    0: "done",
    1: "a gate failed: a verdict is `fail`, nothing holds, what was to be verified cannot be, `--fail-if` holds, or "
    "too few answers are right",
    2: "the command, a recipe or an input file is wrong",
    3: "a fault in Edgeship itself",
    4: "something that was named does not exist",
    5: "a tool that Edgeship drives failed",
    6: "bytes or tokens are not what they should be",
    7: "this machine lacks memory, disk or permission",
    8: "what was to be decided is undecided, or an answer that was held to something was cut before its end",
    130: "interrupted",
}


def commands() -> str:
    """Every command with its arguments and options."""
    lines = ["# Commands", "", "Made from the code by `make docs`. Results go to stdout, progress to stderr.", ""]
    lines += [
        "What can be written for NAME[:VERSION], a folder, `foundry:NAME` or a URL: [targets.md](targets.md).",
        "",
    ]
    root = typer.main.get_command(app)
    lines += ["Before the command:", "", *option_table(root), ""]
    for path, command in walk(root, "edgeship"):
        words = [path]
        arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
        words += [metavar(argument) for argument in arguments]
        lines += [f"## {path}", "", (command.help or "").strip(), "", "```", " ".join([*words, "[OPTIONS]"]), "```", ""]
        lines += [*option_table(command), ""]
    return "\n".join(lines)


def option_table(command: Any) -> list[str]:
    options = [each for each in command.params if each.param_type_name == "option" and "--help" not in each.opts]
    return ["| option | meaning | default |", "| --- | --- | --- |", *map(option_row, options)]


def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Each command that does something, with the words that call it."""
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
        return
    for name, child in children.items():
        if child.hidden:
            continue
        yield from walk(child, f"{path} {name}")


def metavar(argument: Any) -> str:
    text = argument.metavar or str(argument.name).upper()
    return text if argument.required or text.startswith("[") else f"[{text}]"


def option_row(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    shown = option.show_default if isinstance(option.show_default, str) else ""
    if not shown and option.show_default and option.default not in (None, False, ()):
        shown = str(option.default)
    return f"| {names} | {escape(option.help or '')} | {escape(shown)} |"


def errors() -> str:
    """Every error code with its exit code and meaning."""
    lines = ["# Errors and exit codes", "", "Made from the code by `make docs`.", ""]
    lines += ["An error says what happened, where, and what to try. With `--json` it is also printed to stdout as", ""]
    lines += ['`{"error": {"code": ..., "exit_code": ..., "what": ..., "where": ..., "hint": ...}}`.', ""]
    lines += ["| exit code | meaning |", "| --- | --- |"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    lines += ["", "| error | exit code | HTTP status | meaning |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{error.code}` | {error.exit_code} | {error.http_status} | {escape(first_sentence(error.__doc__ or ''))} |"
        for error in sorted(all_errors(), key=lambda error: (error.exit_code, error.code))
    ]
    return "\n".join([*lines, ""])


def first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def escape(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def families() -> str:
    """Every architecture that can be built: its layers, by which builders, how exactly, and what runs it."""
    measured = json.loads((DOCS / "families.json").read_text(encoding="utf-8"))
    header = ("models", "architecture", "layers", "onnxruntime-genai's", "Olive", "difference", "runs in")
    lines = ["# Model families", "", "Made from the code by `make docs`.", "", *FAMILIES_INTRODUCTION.splitlines(), ""]
    lines += [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for name, family in FAMILIES.items():
        builders = ("yes" if built else "" for built in (family.genai, family.olive))
        cells = (family.title, f"`{name}`", _layers(family), *builders, *_exactness(measured.get(name)))
        lines.append(f"| {' | '.join(cells)} |")
    types = {kind: family.title for family in FAMILIES.values() for kind in family.text_types}
    lines += ["", *WRAPPED.splitlines(), "", *(f"- `{kind}`: {title}" for kind, title in types.items())]
    return "\n".join([*lines, "", *NEW_FAMILY.splitlines(), ""])


FAMILIES_INTRODUCTION = """\
The streaming builder makes all of these, and nothing need be chosen for it. A "yes" says that another builder makes
the right thing of the family, too: onnxruntime-genai's (`--builder genai`) or Olive's (`--builder olive`). Elsewhere
these two are refused.

**Difference** is the largest one between a logit of an FP32 build and what transformers computes, as a part of the
logits' range, over prompts of 1 to 110 tokens on at least three small random checkpoints of the family, whose shapes
differ in what the family leaves open; 64 greedy tokens are the same. With a LoRA adapter on every linear layer and
all experts it is that in brackets. **Runs in** says what gave the same 64 tokens from the package: Edgeship's own
engine, many requests side by side, and onnxruntime-genai, which Foundry Local runs; where rotary frequencies change
with a text's length, as in Phi-3 with LongRoPE, Edgeship runs the package by onnxruntime-genai too.
`benchmarks/measure_families.py` measures all of it."""
WRAPPED = """\
Of a model that sees or hears as well, the streaming builder makes the text part alone, where that is of one of these
families by `text_config.model_type` in config.json: `Gemma3ForConditionalGeneration`,
`Mistral3ForConditionalGeneration` or `MllamaForConditionalGeneration`, for example. The rest of the weights is left
out, and the build says how much that is. An adapter that was trained on the whole model is merged into its text part.
Some call a text part by a name of its own:"""
NEW_FAMILY = """\
## Adding a family

A family is a row of the table of `src/edgeship/checkpoint/families.py`, in `dense_families.py` or `mixed_families.py`
beside it. It says only what config.json and the weights do not: a layer has a bias where the checkpoint stores one,
and sizes are read. As an example, Seed-OSS is Llama with other defaults, so its whole row is

```python
"SeedOssForCausalLM": Family(
    "Seed-OSS",
    "seed_oss",
    genai=False,
    olive=False,
    traits=Traits("llama", defaults={"num_key_value_heads": 8, "head_dim": 128}),
),
```

1. Read the family's code in transformers beside that of one which is in the table. Each difference is either a field of
   `Traits` that is there already, a default, or something new.
2. Write the row. What is new becomes a field of `Traits`, named after what it does and not after the family, and is
   obeyed in one place: `architecture.py` for what config.json says, `layout.py` for tensors, `graph.py`, `attention.py`
   or a module of its own for what is computed. A layer that keeps a state instead of keys and values is one of
   `recurrence.py`.
3. Add at least three cases to `tests/families.py`: random configurations with odd sizes, grouped heads, tied and untied
   embeddings, biases where the family may have them. A case lists what is peculiar to the family, and a test holds that
   each of it shows in the logits.
4. `pytest tests/builder/test_architecture.py -k NAME` builds each case in every precision and compares it with
   transformers. `benchmarks/measure_families.py --only ARCHITECTURE --write` measures the row of this page.
5. `make docs` puts the row here, and a test asks for the family's name in README.md."""


def _layers(family: Family) -> str:
    """What the layers of a family mix tokens by."""
    traits = family.traits
    attention = "attention" if traits.windows == "never" else "attention, sliding windows"
    experts = "; mixtures of experts" if traits.routing else ""
    if traits.recurrence is None:
        return attention + experts
    return f"{attention}{' beside ' if traits.recurs_beside else ' and '}{RECURRENCES[traits.recurrence]}{experts}"


def _exactness(measured: dict[str, Any] | None) -> tuple[str, str]:
    if measured is None:
        return "", ""
    runs = {"Edgeship": measured["batched"], "onnxruntime-genai": measured["genai"]}
    difference = f"{measured['difference']:.0e} ({measured['difference_with_adapter']:.0e})"
    return difference, ", ".join(name for name, does in runs.items() if does)


def gate() -> Iterator[str]:
    """What a gate file may hold: the parts of all checks with their bounds."""
    for check in CHECKS:
        yield from ("", f"### [{check.name}]", "", f"{check.title}.", "")
        bounds = bounds_of(check.bounds)
        if not bounds:
            yield "It has no bounds: what it looks at is right or wrong."
            continue
        yield from ("| bound | default | may be | what it bounds |", "| --- | --- | --- | --- |")
        for one in bounds:
            yield f"| `{one.name}` | {one.default:,} | {allowed(one).lower()} | {escape(one.metadata['why'])} |"
    yield from ("", "Each part may also hold these texts:", "", "| key | meaning |", "| --- | --- |")
    yield from (f"| `{key}` | {said} |" for key, said in REASONS.items())


def validate() -> str:
    """The page of the release gate, whose section about the gate file is made here."""
    before, _, rest = (DOCS / "validate.md").read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    _, _, after = rest.partition(f"{END}\n")
    return "\n".join([f"{before}{BEGIN}", *gate(), "", f"{END}\n{after}"])


EDGES = """\
`edgeship validate` asks its targets {count} malformed, hostile and odd requests (its check `edges`), a package both in
process and over HTTP, and after each the plain question again, which must get the answer that it got before.
`--quick` asks those that are marked. `edgeship validate TARGET --replay edges/ROW` asks one of them again, and
`edges/ROW/SURFACE` does so on one surface alone.

**must** is asked of every target: no fault of the server, no crash, no hang, an answer where a question is in order,
control tokens that stay text, and no answer of another request. **Edgeship** is what a package and the server over it
promise besides, with errors in the form of the API that was asked; where that is empty, it is the same.

Surfaces: `inside` is in process; `chat`, `stream` (chat, streamed), `completions` and `responses` are OpenAI's APIs,
`messages` is Anthropic's, `ollama` is `/api/chat`. Of a server those are asked by which it answers the plain question,
and `chat` and `stream` always. What takes a target longer on one surface than a short question may take is not asked on
the others.
"""


def edges() -> str:
    """Every odd request of the release gate, with what must come of it."""
    lines = ["# Odd and hostile requests", "", "Made from the code by `make docs`.", ""]
    lines += EDGES.format(count=len(ROWS)).splitlines()
    for kind in KINDS:
        lines += ["", f"## {kind.replace('-', ' ').capitalize()}", ""]
        lines += [
            "| row | what is asked | surfaces | must be | Edgeship | quick |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in (row for row in ROWS if row.kind == kind):
            own = "" if row.own is None or row.own == row.must else str(row.own)
            own += f"; elsewhere {row.elsewhere}" if row.elsewhere else ""
            cells = (f"`{row.id}`", row.told, ", ".join(row.surfaces), str(row.must), own, "yes" if row.quick else "")
            lines.append(f"| {' | '.join(map(escape, cells))} |")
    return "\n".join([*lines, ""])


PAGES = {
    "commands.md": commands,
    "errors.md": errors,
    "families.md": families,
    "validate.md": validate,
    "validate-edges.md": edges,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
