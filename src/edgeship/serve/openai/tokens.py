"""`/tokenize`, `/detokenize` and `/tokenizer_info`, as vLLM has them."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from edgeship.engine.api import Engine
from edgeship.engine.codec import Codec, Prompt
from edgeship.errors import NotSupported, RequestInvalid
from edgeship.package.conversation import Conversation
from edgeship.serve import thoughts
from edgeship.serve.fields import Fields
from edgeship.serve.messages import Messages, Tools, in_template
from edgeship.serve.models import Opened
from edgeship.serve.openai.settings import Tokens, continuing
from edgeship.serve.server import server_of

router = APIRouter()
_OF_MESSAGES = {"tools", "chat_template_kwargs", "continue_final_message", "add_generation_prompt"}
_CLASS = "PreTrainedTokenizerFast"
"""Where a package does not say which: what reads any tokenizer.json."""


class TokenizeRequest(Fields):
    """A text, or a conversation as it is put to the model. return_token_strs: also the text of each token.

    add_special_tokens: those that the tokenizer puts around every text; in a conversation the template writes them.
    continue_final_message, add_generation_prompt: see `continuing`.
    """

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    tools: Tools | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: bool | None = None
    continue_final_message: bool = False
    add_generation_prompt: bool | None = None
    return_token_strs: bool = False


class DetokenizeRequest(Fields):
    """Tokens."""

    model: str | None = None
    tokens: Tokens


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """The tokens of a text, or of a conversation's prompt."""
    server = server_of(request)
    opened = await server.open(request, body.model)
    codec = _codec(opened)

    def told() -> dict[str, Any]:
        tokens = list(_tokens(opened, codec, body).tokens)
        texts = [spelling.text for spelling in codec.spell(tokens)] if body.return_token_strs else None
        most = opened.chat.context_tokens
        return {"count": len(tokens), "max_model_len": most, "tokens": tokens, "token_strs": texts}

    return await server.tell(told)


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, request: Request) -> dict[str, Any]:
    """The text of tokens, special ones as they are written."""
    server = server_of(request)
    opened = await server.open(request, body.model)
    if isinstance(opened.chat, Engine) and (most := max(body.tokens, default=0)) >= opened.chat.vocab_size:
        raise RequestInvalid(f"token id {most} is outside the vocabulary of {opened.chat.vocab_size}", param="tokens")
    return {"prompt": await server.in_thread(partial(_codec(opened).decode, body.tokens, special=True))}


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str | None = None) -> dict[str, Any]:
    """What tokenizer_config.json says, with the special tokens and the template, wherever the package keeps these."""
    server = server_of(request)
    codec = _codec(await server.open(request, model))
    config = await server.in_thread(lambda: codec.config)
    return {"tokenizer_class": _CLASS, **config, "chat_template": codec.template}


def _tokens(opened: Opened, codec: Codec, body: TokenizeRequest) -> Prompt:
    if (body.prompt is None) == (body.messages is None):
        raise RequestInvalid("either prompt or messages is tokenized", param="prompt", hint="Give one of them.")
    if body.prompt is not None:
        _require_none_for_messages(body)
        return codec.encode(body.prompt, special=body.add_special_tokens is not False)
    if body.add_special_tokens:
        raise RequestInvalid("a chat template writes the special tokens itself", param="add_special_tokens")
    messages, tools = in_template(body.messages or ()), [tool.in_template() for tool in body.tools or ()]
    variables = thoughts.checked(opened, body.chat_template_kwargs)
    continues = continuing(body.continue_final_message, body.add_generation_prompt)
    return codec.render(Conversation(messages, tools, variables, continues=continues))


def _require_none_for_messages(body: TokenizeRequest) -> None:
    """Raises RequestInvalid for what a text has no use for."""
    for name in sorted(body.model_fields_set & _OF_MESSAGES):
        raise RequestInvalid(f"{name} goes with messages, and a prompt is given", param=name, hint="Leave it out.")


def _codec(opened: Opened) -> Codec:
    if opened.chat.codec is None:
        raise NotSupported(f"the tokens of {opened.card.id} are not known here", hint="Ask the server that has it.")
    return opened.chat.codec
