"""`/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM has them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from edgeship.engine.api import Engine, Prompt, check_tokens
from edgeship.engine.text import TextCodec
from edgeship.errors import NotSupported, RequestInvalid
from edgeship.package.conversation import Conversation
from edgeship.serve.fields import Fields
from edgeship.serve.messages import read_messages, read_tools
from edgeship.serve.models import Opened
from edgeship.serve.server import server_of

router = APIRouter()


class TokenizeRequest(Fields):
    """A text, or a conversation as it is put to the model. return_token_strs: also the text of each token."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool = False


class DetokenizeRequest(Fields):
    """Tokens."""

    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0)]]


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, request: Request) -> dict[str, Any]:
    """The tokens of a text, or of a conversation's prompt."""
    server = server_of(request)
    opened = await server.open(request, body.model)
    codec = _codec(opened)
    tokens = (await server.in_thread(partial(_tokens, codec, body))).tokens
    told: dict[str, Any] = {"count": len(tokens), "max_model_len": opened.chat.context_tokens, "tokens": tokens}
    return told | {"token_strs": [codec.token_text(token)[0] for token in tokens] if body.return_token_strs else None}


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, request: Request) -> dict[str, Any]:
    """The text of tokens, special ones as they are written."""
    server = server_of(request)
    opened = await server.open(request, body.model)
    if body.tokens and isinstance(opened.chat, Engine):
        check_tokens(body.tokens, limit=len(body.tokens), vocab_size=opened.chat.vocab_size)
    return {"prompt": await server.in_thread(partial(_codec(opened).decode, body.tokens, special=True))}


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str | None = None) -> dict[str, Any]:
    """What tokenizer_config.json says, with the chat template, wherever the package keeps it."""
    codec = _codec(await server_of(request).open(request, model))
    return {"tokenizer_class": "PreTrainedTokenizerFast", **codec.special_tokens, "chat_template": codec.template}


def _tokens(codec: TextCodec, body: TokenizeRequest) -> Prompt:
    if (body.prompt is None) == (body.messages is None):
        raise RequestInvalid("either prompt or messages is tokenized", param="prompt", hint="Give one of them.")
    if body.prompt is not None:
        special = body.add_special_tokens is not False
        return codec.encode(body.prompt) if special else Prompt(codec.read_rendered(body.prompt))
    if body.add_special_tokens:
        raise RequestInvalid("a chat template writes the special tokens itself", param="add_special_tokens")
    messages, tools = read_messages(body.messages or ()), read_tools(body.tools or ())
    return codec.render(Conversation(messages, tools, body.chat_template_kwargs or {}))


def _codec(opened: Opened) -> TextCodec:
    if opened.codec is None:
        raise NotSupported(f"the tokens of {opened.card.id} are not known here", hint="Ask the server that has it.")
    return opened.codec
