"""Text to token ids and back, with the package's own tokenizer and chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeship.engine.api import Conversation, Prompt, utf8
from edgeship.errors import EngineFailed, PromptInvalid, TemplateMissing
from edgeship.package import template as templates

VERIFY_HINT = "Run `edgeship cache verify` to see which file is damaged."
_BROKEN = "\N{REPLACEMENT CHARACTER}"


class TextCodec:
    """The tokenizer of a package folder. Raises EngineFailed where it is missing or damaged.

    template: the chat template, None where there is none. special_tokens: bos_token, ... as the template names them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tokenizer = load_tokenizer(folder / "tokenizer.json")
        config = read_json(folder / "tokenizer_config.json")
        self.template = read_template(folder, config)
        self.special_tokens = _special_tokens(config)

    def render(self, conversation: Conversation) -> Prompt:
        """The conversation in the model's own template, ready for an answer.

        Raises TemplateMissing, TemplateInvalid, and PromptInvalid for no message or text that is not Unicode.
        """
        if self.template is None:
            raise TemplateMissing(
                "this package has no chat template",
                where=str(self._folder),
                hint="Build it again with `--chat-template FILE`.",
            )
        if not conversation.messages:
            raise PromptInvalid("the conversation has no message")
        text = templates.render(
            self.template,
            conversation.messages,
            special_tokens=self.special_tokens,
            tools=list(conversation.tools) or None,
            **conversation.variables,
        )
        return Prompt(self.read_rendered(text), tuple(conversation.messages))

    def encode(self, text: str) -> Prompt:
        """The tokens of a text, with the special tokens that the tokenizer puts around every text."""
        return Prompt(self._encode(text, add_special_tokens=True))

    def read_rendered(self, text: str) -> tuple[int, ...]:
        """The tokens of a text in which a template has written the special tokens itself."""
        return self._encode(text, add_special_tokens=False)

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens; special tokens leave none unless `special` asks for theirs."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=not special))

    def stream(self) -> TokenText:
        """A new stream of text."""
        return TokenText(self)

    def _encode(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        utf8(text)  # what is no text would be a TypeError in the library
        return tuple(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)


class TokenText:
    """Text of tokens as they come; joined, what the tokenizer decodes from all of them.

    One difference is meant: a decoder may take back good characters when bytes that are no UTF-8 follow them.
    """

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        # Decoders treat the first token of a text in their own way, so some already shown stay in view.
        self._seen: list[int] = []
        self._new: list[int] = []
        self._shown = 0

    def push(self, token: int) -> str:
        """The characters that this token completes."""
        self._new.append(token)
        text = self._codec.decode(self._seen + self._new)
        complete = text.rstrip(_BROKEN)
        piece = complete[self._shown :]
        self._shown = max(self._shown, len(complete))
        if piece and complete == text:
            self._seen, self._new = self._new, []
            self._shown = len(self._codec.decode(self._seen))
        return piece

    def flush(self) -> str:
        """The tokenizer's sign for a character that stayed incomplete."""
        piece = self._codec.decode(self._seen + self._new)[self._shown :]
        self._shown += len(piece)
        return piece


def read_json(path: Path) -> dict[str, Any]:
    """An object of a package's JSON file. Raises EngineFailed."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise _damaged(path, "holds no JSON object")
    return value


def _damaged(path: Path, what: str) -> EngineFailed:
    return EngineFailed(f"{path.name} {what}", where=str(path), hint=VERIFY_HINT)


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a tokenizer.json, without truncation and padding. Raises EngineFailed."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise _damaged(path, f"cannot be read: {error}") from error
    # A file may carry the training's truncation and padding; they would cut or fill prompts silently.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def read_template(folder: Path, config: dict[str, Any]) -> str | None:
    """The chat template of a package folder with this tokenizer_config.json; None where there is none."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    return template if isinstance(template, str) else None


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    found = {key: value for key, value in config.items() if key.endswith("_token")}
    texts = {key: value.get("content") if isinstance(value, dict) else value for key, value in found.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}
