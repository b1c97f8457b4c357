"""Chat templates: where a folder keeps one, and rendering as transformers renders it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgeship.errors import TemplateInvalid
from edgeship.package.conversation import Message as Message
from edgeship.package.conversation import text_of
from edgeship.package.conversation import (
    with_instructions_in_first_question as with_instructions_in_first_question,
)
from edgeship.system import foreign, json_file
from edgeship.system.border import said_by
from edgeship.system.fields import Fields
from edgeship.system.json_file import Complaint

if TYPE_CHECKING:
    import jinja2
    import jinja2.nodes

FILE_NAME = "chat_template.jinja"
OTHERS_FOLDER = "additional_chat_templates"
PROCESSOR_FILE = "chat_template.json"
DEFAULT = "default"
# The longest that are known take a hundredth of it.
_MOST_BYTES = 1 << 22
# The largest in use have a tenth of it.
_MOST_CHARACTERS = 1 << 18
HINT = "Mend the template, or give another one with --chat-template FILE."


def find(folder: Path, tokenizer_config: Mapping[str, Any], *, named: bool = True, hint: str = HINT) -> str | None:
    """The chat template of a checkpoint or package folder with this tokenizer_config.json; None where none is meant.

    named: of several templates the one called "default" counts, or the only one, which onnxruntime-genai does not read.
    Raises TemplateInvalid where a file cannot be read or is empty.
    """
    if named:
        return the_one_meant(find_all(folder, tokenizer_config, hint))
    if (folder / FILE_NAME).exists():
        return read(folder / FILE_NAME, hint)
    stated = tokenizer_config.get("chat_template")
    return stated if isinstance(stated, str) and stated.strip() else None


def find_all(folder: Path, tokenizer_config: Mapping[str, Any], hint: str = HINT) -> dict[str, str]:
    """The chat templates of a folder by name, from every place where a version of transformers writes them.

    A file of its own counts before tokenizer_config.json, and what was saved for a processor comes last.
    Raises TemplateInvalid where a file cannot be read or is empty.
    """
    files = {path.stem: path for path in sorted((folder / OTHERS_FOLDER).glob("*.jinja"))}
    if (folder / FILE_NAME).exists():
        files[DEFAULT] = folder / FILE_NAME
    complaint = Complaint(TemplateInvalid, hint)
    of_processor = json_file.read_optional(folder / PROCESSOR_FILE, complaint)
    config = json_file.fields_of(tokenizer_config, folder / "tokenizer_config.json", complaint)
    stated = _by_name(json_file.fields_of(of_processor, folder / PROCESSOR_FILE, complaint)) | _by_name(config)
    return stated | {name: read(path, hint, folder=folder) for name, path in files.items()}


def the_one_meant(templates: Mapping[str, str]) -> str | None:
    """The template called "default", or the only one; None where that leaves a choice, or there is none."""
    only = next(iter(templates.values())) if len(templates) == 1 else None
    return templates.get(DEFAULT, only)


def _by_name(config: Fields) -> dict[str, str]:
    """Templates by name, be they stated as one text, as a list of objects, or as an object."""
    key = "chat_template"
    if isinstance(config.values.get(key), list):
        named = {part.required_text("name"): part.text("template") for part in config.parts(key)}
    elif isinstance(config.values.get(key), dict):
        named = {name: config.part(key).text(name) for name in config.part(key).values}
    else:
        named = {DEFAULT: config.text(key)}
    return {name: text for name, text in named.items() if text and text.strip()}


def read(path: Path, hint: str = HINT, *, folder: Path | None = None, named: bool = False) -> str:
    """The template in a file of its own; folder, named: see `foreign.open_file`.

    Raises TemplateInvalid where it cannot be read or is empty.
    """
    try:
        text = foreign.read_text(path, folder=folder, named=named, most_bytes=_MOST_BYTES)
    except (OSError, ValueError) as error:
        raise TemplateInvalid(f"the chat template cannot be read: {error}", where=str(path), hint=hint) from error
    if not text.strip():
        raise TemplateInvalid("the chat template is empty", where=str(path), hint=hint)
    return text


def render(
    template: str,
    messages: Sequence[Message],
    *,
    special_tokens: Mapping[str, str],
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] = (),
    variables: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """The prompt text, exactly as transformers' apply_chat_template(tokenize=False) renders it.

    Contents in parts go to templates that read parts, and to others as one text, as vLLM does.
    special_tokens: bos_token, eos_token, ... as the template names them. variables: others, which go before those.
    Raises TemplateInvalid for a template that cannot be parsed, fails, or refuses the conversation.
    """
    compiled = _compile(template)
    known = {"documents": None, **special_tokens, **variables, "tools": list(tools) or None}
    prepared = [_prepared(message) for message in messages]
    in_parts = any(isinstance(message.get("content"), list) for message in prepared)
    if in_parts and not _reads_parts(template, tuple(special_tokens.items())):
        prepared = [message | {"content": text_of(message.get("content"))} for message in prepared]
    try:
        return _shown(compiled, messages=prepared, add_generation_prompt=add_generation_prompt, **known)
    except Exception as error:
        line = _template_line(error)
        place = f" (line {line})" if line else ""
        raise TemplateInvalid(
            f"the chat template does not render this conversation{place}: {said_by(error)}",
            where="chat template",
            hint=HINT,
        ) from error


def _shown(compiled: jinja2.Template, **known: Any) -> str:
    from edgeship.package import sandbox

    with sandbox.budget():
        return compiled.render(**known)


def _prepared(message: Message) -> dict[str, Any]:
    """A message as templates are written for it: the arguments of a call are an object, and parts a list."""
    found = dict(message)
    if isinstance(found.get("content"), tuple):
        found["content"] = list(found["content"])
    if found.get("tool_calls"):
        found["tool_calls"] = [_with_arguments(call) for call in found["tool_calls"]]
    return found


def _with_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call["function"])
    if isinstance(function.get("arguments"), str):
        function["arguments"] = json.loads(function["arguments"])
    return {**call, "function": function}


@functools.lru_cache(maxsize=32)
def _reads_parts(template: str, special_tokens: tuple[tuple[str, str], ...]) -> bool:
    """Whether a template shows the text of a part, and not the part as Python writes it, nothing, or an error."""
    text = "edgeship"

    def shown(content: Any) -> str:
        message = {"role": "user", "content": content}
        known = {"tools": None, "documents": None, **dict(special_tokens)}
        return _shown(_compile(template), messages=[message], add_generation_prompt=True, **known)

    try:
        whole, parts = shown(text), shown([{"type": "text", "text": text}])
    except Exception:
        return False
    return text in parts and (parts == whole or text not in whole)


def syntax(template: str) -> jinja2.nodes.Template:
    """The template as Jinja takes it apart. Raises TemplateInvalid."""
    _compile(template)
    return _environment().parse(template)


@functools.lru_cache(maxsize=32)
def asks_for(template: str) -> frozenset[str]:
    """The names that a template takes from outside, such as messages, tools and enable_thinking.

    Raises TemplateInvalid.
    """
    from jinja2 import meta

    return frozenset(meta.find_undeclared_variables(syntax(template)))


@functools.lru_cache(maxsize=32)
def takes_instructions(template: str, special_tokens: tuple[tuple[str, str], ...]) -> bool:
    """Whether a template shows what a system message says; some refuse one (Gemma's), others leave it out."""

    def rendered(text: str) -> str:
        messages = [{"role": "system", "content": text}, {"role": "user", "content": "?"}]
        return render(template, messages, special_tokens=dict(special_tokens))

    try:
        # Not by looking for the text, which a template may change: into capitals, or with escapes.
        return rendered("edgeship") != rendered("another")
    except TemplateInvalid:
        return False


def readable(template: str, messages: Sequence[Message], special_tokens: Mapping[str, str]) -> Sequence[Message]:
    """The messages as the template takes them: without a system role where it has none."""
    told = any(message["role"] == "system" for message in messages)
    if not told or takes_instructions(template, tuple(special_tokens.items())):
        return messages
    return with_instructions_in_first_question(messages)


@functools.lru_cache(maxsize=32)
def _compile(template: str) -> jinja2.Template:
    import jinja2

    from edgeship.package import sandbox

    if len(template) > _MOST_CHARACTERS:
        what = f"the chat template has {len(template)} characters, and {_MOST_CHARACTERS} is the most"
        raise TemplateInvalid(what, where="chat template", hint=HINT)
    try:
        with sandbox.budget():
            return _environment().from_string(template)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateInvalid(
            f"the chat template cannot be parsed: line {error.lineno}: {error.message}",
            where="chat template",
            hint=HINT,
        ) from error
    except Exception as error:  # jinja2 compiles to Python, and constant folding there may fail in any way
        raise TemplateInvalid(
            f"the chat template cannot be compiled: {said_by(error)}", where="chat template", hint=HINT
        ) from error


@functools.cache
def _environment() -> jinja2.Environment:
    """Jinja as transformers sets it up: templates are code by strangers, so the sandbox is not optional."""
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    import jinja2.parser

    from edgeship.package import sandbox

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks what the assistant wrote, for training; it renders its body."""

        tags = {"generation"}  # noqa: RUF012 - jinja2 reads a plain set

        def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
        return sandbox.concat(encoder.iterencode(value))

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = sandbox.Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.add_filter("tojson", tojson)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _template_line(error: BaseException) -> int | None:
    """The template's line that failed; jinja2 rewrites tracebacks to hold it."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
