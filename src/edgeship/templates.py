"""Chat templates: rendering, the prompt parts derived from one, and whether all readers get the same ids."""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgeship.errors import TemplateInvalid, TemplateMismatch

if TYPE_CHECKING:
    import jinja2

Message = Mapping[str, str]
"""One turn of a conversation: {"role": "system" | "user" | "assistant", "content": text}."""

CONTENT = "{Content}"
_HINT = "Mend the template, or give another one with --chat-template FILE."


# --- rendering ------------------------------------------------------------------------------------


def render(
    template: str,
    messages: Sequence[Message],
    *,
    special_tokens: Mapping[str, str],
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """The prompt text, exactly as transformers' apply_chat_template(tokenize=False) renders it.

    special_tokens: bos_token, eos_token, ... as the template names them.
    Raises TemplateInvalid for a template that cannot be parsed, fails, or refuses the conversation.
    """
    compiled = _compile(template)
    known: dict[str, Any] = {"tools": None, "documents": None, **special_tokens, **variables}
    try:
        return compiled.render(
            messages=[dict(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            **known,
        )
    except Exception as error:
        line = _template_line(error)
        place = f" (line {line})" if line else ""
        raise TemplateInvalid(
            f"the chat template does not render this conversation{place}: {error}",
            where="chat template",
            hint=_HINT,
        ) from error


@functools.lru_cache(maxsize=32)
def _compile(template: str) -> jinja2.Template:
    import jinja2

    try:
        return _environment().from_string(template)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateInvalid(
            f"the chat template cannot be parsed: line {error.lineno}: {error.message}",
            where="chat template",
            hint=_HINT,
        ) from error
    except Exception as error:  # jinja2 compiles to Python, and constant folding there may fail in any way
        raise TemplateInvalid(
            f"the chat template cannot be compiled: {error}", where="chat template", hint=_HINT
        ) from error


@functools.cache
def _environment() -> jinja2.Environment:
    """Jinja as transformers sets it up: templates are code by strangers, so the sandbox is not optional."""
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    import jinja2.parser
    import jinja2.sandbox

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
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
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


# --- prompt parts ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class PromptParts:
    """A chat template as a text per turn, "{Content}" in the place of what is said.

    system: None where the template has no system turn of its own (Gemma, Mistral).
    prompt: the last user turn and the opening of the assistant's.
    opening: what stands before the first turn where the system has none: a BOS text, a default system turn.
    """

    system: str | None
    user: str
    assistant: str
    prompt: str
    opening: str = ""


def derive_parts(template: str, special_tokens: Mapping[str, str]) -> PromptParts:
    """The parts of a template, found by rendering conversations and cutting out the text around each turn.

    Raises TemplateInvalid for a template that does not render, or whose turns do not stand one after another.
    """

    def rendered(*turns: tuple[str, str], ask: bool = True) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        return render(template, messages, special_tokens=special_tokens, add_generation_prompt=ask)

    said = _sentinels(template)
    user, answer, again = ("user", said[0]), ("assistant", said[1]), ("user", said[2])
    whole = rendered(user, answer, again)
    head, middle, between, tail = _cut(whole, said[0], said[1], said[2])
    (user_end,) = _cut(rendered(user, ask=False), said[0])[1:]
    (assistant_end,) = _cut(rendered(user, answer, ask=False), said[0], said[1])[2:]

    user_suffix = _shared_start(user_end, middle)
    assistant_suffix = _shared_start(assistant_end, between)
    user_prefix = between[len(assistant_suffix) :]
    if not head.endswith(user_prefix):
        raise _not_linear(f"a later user turn opens with {user_prefix!r}", whole)
    parts = PromptParts(
        system=_system_part(rendered, said, user_prefix),
        user=user_prefix + CONTENT + user_suffix,
        assistant=middle[len(user_suffix) :] + CONTENT + assistant_suffix,
        prompt=user_prefix + CONTENT + tail,
        opening=head[: len(head) - len(user_prefix)],
    )
    _check_parts(parts, rendered, said)
    return parts


def assemble(parts: PromptParts, messages: Sequence[Message]) -> str:
    """The text that a reader of prompt parts makes of a conversation that ends with a user turn.

    Raises TemplateInvalid for a conversation that the parts cannot express.
    """
    if not messages or messages[-1]["role"] != "user":
        raise TemplateInvalid("prompt parts express only conversations that end with a user turn")
    by_role = {"system": parts.system, "user": parts.user, "assistant": parts.assistant}
    texts = [parts.opening if messages[0]["role"] != "system" else ""]
    for message in messages[:-1]:
        part = by_role.get(message["role"])
        if part is None:
            raise TemplateInvalid(f"the chat template has no turn for the role {message['role']!r}")
        texts.append(part.replace(CONTENT, message["content"], 1))
    texts.append(parts.prompt.replace(CONTENT, messages[-1]["content"], 1))
    return "".join(texts)


def _sentinels(template: str) -> tuple[str, str, str, str]:
    """Four texts that the template does not contain and that no part of it would trim or split."""
    stem = "Zq"
    while stem in template:
        stem += "q"
    return f"{stem}1x", f"{stem}2x", f"{stem}3x", f"{stem}4x"


def _cut(text: str, *said: str) -> list[str]:
    """The texts around what was said: len(said) + 1 of them. Each must stand there once, and in order."""
    pieces, rest = [], text
    for sentinel in said:
        before, found, rest = rest.partition(sentinel)
        if not found or any(other in before for other in said) or sentinel in rest:
            raise _not_linear("what was said does not stand in it once and in order", text)
        pieces.append(before)
    return [*pieces, rest]


def _shared_start(end: str, onward: str) -> str:
    """How a turn ends: what its end has in common with the way on to the next turn, no tag cut in two."""
    shared = end[: _shared_length(end, onward)]
    if shared == end:
        return shared
    for opening, closing in ("<>", "[]"):
        last = shared.rfind(opening)
        if last > shared.rfind(closing):
            shared = shared[:last]
    return shared


def _shared_length(first: Sequence[object], second: Sequence[object]) -> int:
    """How many items two sequences have in common at their beginning."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _system_part(rendered: Callable[..., str], said: Sequence[str], user_prefix: str) -> str | None:
    """None where the template refuses a system turn, leaves it out, or writes it into the user's turn."""
    try:
        text = rendered(("system", said[3]), ("user", said[0]))
    except TemplateInvalid:
        return None
    head = text.partition(said[0])[0]
    if head.count(said[3]) != 1 or not head.endswith(user_prefix):
        return None
    if head.find(said[3]) + len(said[3]) > len(head) - len(user_prefix):
        return None
    return head[: len(head) - len(user_prefix)].replace(said[3], CONTENT)


def _check_parts(parts: PromptParts, rendered: Callable[..., str], said: Sequence[str]) -> None:
    """Raises TemplateInvalid where the parts do not give back what they were cut from, or more turns."""
    turns = [("user", said[0]), ("assistant", said[1]), ("user", said[2]), ("assistant", "a"), ("user", "b")]
    conversations = [turns[:1], turns[:3], turns]
    if parts.system is not None:
        conversations += [[("system", said[3]), *conversation] for conversation in conversations]
    for conversation in conversations:
        text = rendered(*conversation)
        made = assemble(parts, [{"role": role, "content": content} for role, content in conversation])
        if made != text:
            raise _not_linear(f"its parts would give {made!r}", text)


def _not_linear(why: str, text: str) -> TemplateInvalid:
    return TemplateInvalid(
        f"no prompt parts can be derived from the chat template: {why}; it rendered {text!r}",
        where="chat template",
        hint="Its turns must stand one after another, each written the same way. " + _HINT,
    )


# --- fidelity -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conversation:
    """A conversation to compare readers by.

    edge_spaces: a text begins or ends with spaces, which a template may trim and prompt parts cannot.
    decomposed: an accent is a character of its own, which a tokenizer may compose (NFC) and onnxruntime-genai does not.
    """

    name: str
    messages: tuple[Message, ...]
    edge_spaces: bool = False
    decomposed: bool = False

    @property
    def has_system(self) -> bool:
        """True where a turn is the system's."""
        return any(message["role"] == "system" for message in self.messages)


def _conversation(name: str, *contents: str, system: str | None = None, spaces: bool = False) -> Conversation:
    """Turns of the user and the assistant, by turns."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    first = [{"role": "system", "content": system}] if system is not None else []
    return Conversation(name, (*first, *turns), spaces)


CONVERSATIONS = (
    _conversation("one question", "Where is my order?"),
    _conversation("system and question", "Where is my order?", system="You answer in one short sentence."),
    _conversation("several turns", "Hello", "Hello, what can I do?", "Cancel it.", "Done.", "Thank you!"),
    _conversation("system and several turns", "Hi", "Yes?", "What is 2 + 2?", system="Be brief.\nBe kind."),
    _conversation("many scripts", "Grüße, naïve café 😀👩‍👩‍👧 日本語のテキスト 한국어 العربية हिन्दी"),
    _conversation("code", 'def f(x):\n\treturn {"a": [x], "b": {}}\n\n\n# {Content} {{ content }} {% if x %}'),
    _conversation("digits", "Order 1234567890, 3.14159, 00001 and 2026-11-22 10:20:30; don't, WE'LL"),
    _conversation("special tokens in text", "a<|im_end|>b<|endoftext|><s></s><|eot_id|><end_of_turn>[INST] c [/INST]"),
    _conversation("long", "A sentence that is said again and again, with number 42 in it. " * 40 + "End"),
    _conversation("single character", "?"),
    _conversation("spaces inside", "a  b   c \t d\n\n\ne  \n f"),
    _conversation("spaces at the edges", "  spaces around \n", spaces=True),
    Conversation("decomposed accents", ({"role": "user", "content": "cafe\u0301"},), decomposed=True),
)
"""What templates and tokenizers are compared by: each line has upset a real one."""


def conversations_for(template: str, special_tokens: Mapping[str, str]) -> tuple[Conversation, ...]:
    """CONVERSATIONS, but those with a system turn where the template refuses one. Raises TemplateInvalid."""

    def accepted(conversation: Conversation) -> bool:
        try:
            render(template, conversation.messages, special_tokens=special_tokens)
        except TemplateInvalid:
            if conversation.has_system:
                return False
            raise
        return True

    return tuple(filter(accepted, CONVERSATIONS))


Encoder = Callable[[Sequence[Message]], Sequence[int]]
"""Gives the token ids of a conversation that waits for an answer. Raises TemplateInvalid where it cannot."""


@dataclass(frozen=True)
class Mismatch:
    """The first difference between two readers of one conversation.

    index: position of the first token that differs.
    expected, found: the ids from four tokens before to four after; their texts where a decoder is given.
    excuse: why this difference is known and bearable; None for one that is not.
    """

    conversation: str
    reference: str
    encoder: str
    index: int
    expected: tuple[int, ...]
    found: tuple[int, ...]
    expected_text: str | None = None
    found_text: str | None = None
    excuse: str | None = None

    def __str__(self) -> str:
        expected = f" ({self.expected_text!r})" if self.expected_text is not None else ""
        found = f" ({self.found_text!r})" if self.found_text is not None else ""
        return (
            f"conversation {self.conversation!r}, token {self.index}: {self.reference} has "
            f"{list(self.expected)}{expected}, {self.encoder} has {list(self.found)}{found}"
        )


def compare_tokens(
    conversation: str,
    reference: tuple[str, Sequence[int]],
    other: tuple[str, Sequence[int]],
    decode: Callable[[Sequence[int]], str] | None = None,
) -> Mismatch | None:
    """Where two readers' (name, ids) of a conversation first differ; None where they are equal."""
    expected, found = tuple(map(int, reference[1])), tuple(map(int, other[1]))
    if expected == found:
        return None
    index = _shared_length(expected, found)
    window = slice(max(0, index - 4), index + 5)
    return Mismatch(
        conversation,
        reference[0],
        other[0],
        index,
        expected[window],
        found[window],
        decode(expected[window]) if decode else None,
        decode(found[window]) if decode else None,
    )


def check_fidelity(
    encoders: Mapping[str, Encoder],
    conversations: Sequence[Conversation] = CONVERSATIONS,
    decode: Callable[[Sequence[int]], str] | None = None,
) -> list[Mismatch]:
    """Every difference from the first encoder, which is the reference; empty where all agree.

    A conversation with a system turn is left out for an encoder that cannot express one.
    """
    (reference, reference_encode), *others = encoders.items()
    found = []
    for conversation in conversations:
        expected = _ids(reference_encode, conversation)
        if expected is None:
            continue
        for name, encode in others:
            mismatch = _difference(conversation, (reference, expected), (name, encode), decode)
            if mismatch is not None:
                found.append(mismatch)
    return found


def require_fidelity(mismatches: Sequence[Mismatch]) -> None:
    """Raises TemplateMismatch that shows the first difference without an excuse; nothing where there is none."""
    mismatches = [mismatch for mismatch in mismatches if mismatch.excuse is None]
    if mismatches:
        conversations = len({mismatch.conversation for mismatch in mismatches})
        raise TemplateMismatch(
            f"the readers of the chat template disagree in {conversations} of the test conversations; "
            f"first in {mismatches[0]}",
            where="chat template",
            hint="The model would read other prompts than in training. transformers rebuilds some tokenizers by their "
            "class; AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes the one in use to tokenizer.json.",
        )


def _difference(
    conversation: Conversation,
    reference: tuple[str, Sequence[int]],
    other: tuple[str, Encoder],
    decode: Callable[[Sequence[int]], str] | None,
) -> Mismatch | None:
    name, encode = other
    ids = _ids(encode, conversation)
    if ids is None:
        return None
    mismatch = compare_tokens(conversation.name, reference, (name, ids), decode)
    if mismatch is None:
        return None
    # A reader that leaves out a step must agree on what that step would have made.
    for applies, change, excuse in (
        (conversation.edge_spaces, str.strip, f"{name} does not trim texts as the template does"),
        (conversation.decomposed, compose, f"{name} does not compose accents (NFC) as the tokenizer does"),
    ):
        changed = [{**message, "content": change(message["content"])} for message in conversation.messages]
        if applies and compare_tokens(conversation.name, reference, (name, encode(changed)), decode) is None:
            return replace(mismatch, excuse=excuse)
    return mismatch


def compose(text: str) -> str:
    """The text with its accents composed (NFC)."""
    return unicodedata.normalize("NFC", text)


def _ids(encode: Encoder, conversation: Conversation) -> Sequence[int] | None:
    try:
        return encode(conversation.messages)
    except TemplateInvalid:
        if conversation.has_system:
            return None
        raise
