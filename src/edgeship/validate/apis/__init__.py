"""The APIs by which an answer can be asked for: all that is known of each, in one place."""

from __future__ import annotations

from edgeship.validate.apis.anthropic import Messages
from edgeship.validate.apis.api import Api
from edgeship.validate.apis.ollama import OllamaChat, OllamaGenerate
from edgeship.validate.apis.openai import Chat, Completions
from edgeship.validate.apis.responses import Responses

CHAT, COMPLETIONS, RESPONSES, MESSAGES = Chat(), Completions(), Responses(), Messages()
OLLAMA_CHAT, OLLAMA_GENERATE = OllamaChat(), OllamaGenerate()
APIS: tuple[Api, ...] = (CHAT, COMPLETIONS, RESPONSES, MESSAGES, OLLAMA_CHAT, OLLAMA_GENERATE)
