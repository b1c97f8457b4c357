"""Text to token ids and back, with the package's own tokenizer and chat template."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from edgeship.engine.api import Conversation, Message, utf8
from edgeship.engine.codec import Prompt, Spelling
from edgeship.engine.thinking import MARKS, Marks
from edgeship.engine.tools import CallMarks
from edgeship.errors import ContextFull, TemplateInvalid, TemplateMissing
from edgeship.package import DAMAGED, continuing, template, tokenizer
from edgeship.package.control_tokens import ControlTokens
from edgeship.package.conversation import text_of
from edgeship.package.tool_prompts import ToolPrompts, chosen_for

CHARACTERS_A_TOKEN = 256
"""Twice as many as the longest tokens of any family have: a text of more for each token of a context fits in none."""
_THOUGHT_MARKS = frozenset(itertools.chain(*((begin, end) for begin, end, _ in MARKS)))
_MOST_PARTS = 8
"""Of two characters in UTF-8, each of which may be a token: one that is whole, and one that is not yet."""
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"


class TextCodec:
    """The tokenizer of a package folder. Raises EngineFailed where it is missing or damaged, TemplateInvalid.

    No other thread runs while it is loaded, which takes a second with the largest vocabularies.
    context_tokens: longer texts are refused before they are read; None reads any.
    special_tokens: bos_token, ... as the template names them. tokenizer: its tokenizer.json. See Codec for the rest.
    """

    def __init__(self, folder: Path, context_tokens: int | None = None) -> None:
        if not (folder / tokenizer.CONFIG_NAME).is_file():
            raise DAMAGED.about(folder / tokenizer.CONFIG_NAME, "is missing")
        files = tokenizer.read(folder, DAMAGED)
        self._folder, self._context_tokens = folder, context_tokens
        self.tokenizer = files.load()
        self.template = template.find(folder, files.config, hint=DAMAGED.hint)
        self.special_tokens = files.special_tokens
        self.config = tokenizer.told(files)

    def render(self, conversation: Conversation, *, trusting: bool = False) -> Prompt:
        """The conversation in the model's own template, ready for an answer.

        trusting: control tokens that stand in its texts count as such, as they do in transformers; else they are text.
        Raises TemplateMissing, TemplateInvalid, PromptInvalid for text that is not Unicode, and NotSupported for an
        answer that was begun and that the template does not show as it is.
        """
        self._check_length(sum(len(text_of(message.get("content"))) for message in conversation.messages))
        if trusting:
            tokens = self._encode(self._rendered(conversation), special=False)
            return Prompt(tokens, conversation.tool_use, conversation.continues)
        text, typed = self._rendered_apart(conversation)
        tokens = self._encode(text, special=False, seams=typed)
        self._control.require_written(tokens, text, typed)
        return Prompt(tokens, conversation.tool_use, conversation.continues)

    def has_control_tokens(self, conversation: Conversation) -> bool:
        """Whether control tokens stand in texts of the conversation, where they are no more than text."""
        return bool(self._rendered_apart(conversation)[1])

    def _rendered_apart(self, conversation: Conversation) -> tuple[str, list[int]]:
        """The rendered text, and the places within control tokens that somebody typed."""
        return self._control.typed(self._rendered(self._control.mark(conversation)))

    def _rendered(self, conversation: Conversation) -> str:
        if conversation.continues:
            return continuing.rendered(conversation, self._written)
        return self._written(conversation)

    def _written(self, conversation: Conversation) -> str:
        """What the template makes of it: with the beginning of an answer, unless that is there already."""
        if self.template is None:
            raise TemplateMissing(
                "this package has no chat template",
                where=str(self._folder),
                hint="Build it again with `--chat-template FILE`.",
            )
        messages, variables = conversation.messages, dict(conversation.variables)
        if conversation.uses_tools:
            messages = self._tool_prompts.messages(conversation)
            variables |= self._tool_prompts.variables(conversation)
        return template.render(
            self.template,
            self.readable(messages),
            special_tokens=self.special_tokens,
            add_generation_prompt=not conversation.continues,
            tools=variables.pop("tools", ()),
            variables=variables,
        )

    @functools.cached_property
    def _control(self) -> ControlTokens:
        # Marks of thoughts open no turn, and templates look for them in texts.
        added = self.tokenizer.added_tokens
        added = {number: token for number, token in added.items() if token.content not in _THOUGHT_MARKS}
        return ControlTokens(added, self._tokens_around_turns())

    def _tokens_around_turns(self) -> Sequence[int]:
        """The tokens of a plain conversation. Not all tokenizers call those special that their template writes."""
        turns = [{"role": role, "content": "?"} for role in ("system", "user", "assistant", "user")]
        try:
            return self.tokenizer.encode(self._rendered(Conversation(turns)), special=False)
        except TemplateInvalid:
            return ()

    def readable(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages as the template takes them: without a system role where it has none."""
        if self.template is None:
            return messages
        return template.readable(self.template, messages, self.special_tokens)

    def encode(self, text: str, *, special: bool = True) -> Prompt:
        """See Codec."""
        return Prompt(self._encode(text, special=special), continues=True)

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """See Codec."""
        return self.tokenizer.decode(tokens, special=special)

    def spell(self, tokens: Sequence[int]) -> tuple[Spelling, ...]:
        """See Codec."""
        return tuple(Spelling(self.tokenizer.token_bytes(token), self._is_special(token)) for token in tokens)

    def places(self, tokens: Sequence[int], text: str) -> tuple[int, ...]:
        """See Codec."""
        stream = self.stream(special=self.decode(tokens, special=True) == text)
        ends = itertools.accumulate(len(stream.push(token)) for token in tokens)
        return (0, *ends)[: len(tokens)]

    def _is_special(self, token: int) -> bool:
        added = self.tokenizer.added_tokens.get(token)
        return added is not None and added.special

    @property
    def thinks(self) -> bool:
        """See Codec."""
        return self.thought_marks is not None

    @property
    def thought_marks(self) -> Marks | None:
        """The tokens around what the model thinks; None where the tokenizer has none."""
        for *names, label in MARKS:
            begin, end = map(self.tokenizer.library.token_to_id, names)
            if begin is not None and end is not None:
                return Marks(begin, end, label)
        return None

    @property
    def drops_first_space(self) -> bool:
        """Whether a space before the first word is not shown: tokenizers by SentencePiece put it there themselves."""
        mark = self.tokenizer.library.token_to_id(_SPACE_MARK)
        return mark is not None and self.decode([mark]) == ""

    @functools.cached_property
    def call_marks(self) -> CallMarks:
        """How the model writes calls of functions, by what its template does with them."""
        form = self._tool_prompts.format
        found = {mark: self.tokenizer.library.token_to_id(mark) for mark in form.marks}
        unseen = {mark: token for mark, token in found.items() if token is not None and not self.decode([token])}
        return CallMarks(form, unseen)

    def stream(self, after: Sequence[int] = (), *, special: bool = False) -> TokenText:
        """A new stream of text. after: the tokens that it goes on from. special: see `decode`."""
        return TokenText(self, after, special=special)

    @property
    def _tool_prompts(self) -> ToolPrompts:
        return chosen_for(self.template or "", tuple(self.special_tokens.items()))

    def _encode(self, text: str, *, special: bool, seams: Sequence[int] = ()) -> tuple[int, ...]:
        utf8(text)  # what is no text would be a TypeError in the library
        self._check_length(len(text))
        return tuple(self.tokenizer.encode(text, special=special, seams=seams))

    def _check_length(self, characters: int) -> None:
        if self._context_tokens is not None and characters > self._context_tokens * CHARACTERS_A_TOKEN:
            raise ContextFull(
                f"a text of {characters} characters is longer than any {self._context_tokens} tokens, which are all "
                "that the model takes",
                hint="Shorten the prompt or the conversation; tools are part of it.",
            )


class TokenText:
    """Text of tokens as they come; joined, what the tokenizer decodes from all of them.

    One difference is meant: a decoder may take back good characters when bytes that are no UTF-8 follow them.
    """

    def __init__(self, codec: TextCodec, after: Sequence[int] = (), *, special: bool = False) -> None:
        self._decode = partial(codec.decode, special=special)
        # Decoders treat the first token of a text in their own way, so some already shown stay in view.
        self._seen = self._end_of(after)
        self._new: list[int] = []
        self._shown = len(self._decode(self._seen).rstrip(_BROKEN))

    def _end_of(self, tokens: Sequence[int]) -> list[int]:
        """The last tokens of a text, as many as begin with a whole character."""
        ends = (list(tokens[-count:]) for count in range(1, 1 + min(len(tokens), _MOST_PARTS)))
        return next((end for end in ends if not self._decode(end).startswith(_BROKEN)), [])

    def push(self, token: int) -> str:
        """The characters that this token completes."""
        self._new.append(token)
        text = self._decode(self._seen + self._new)
        complete = text.rstrip(_BROKEN)
        piece = complete[self._shown :]
        self._shown = max(self._shown, len(complete))
        if piece and complete == text:
            self._seen, self._new = self._new, []
            self._shown = len(self._decode(self._seen))
        return piece

    def flush(self) -> str:
        """The tokenizer's sign for a character that stayed incomplete."""
        piece = self._decode(self._seen + self._new)[self._shown :]
        self._shown += len(piece)
        return piece
