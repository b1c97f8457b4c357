"""What Ollama's clients ask, as conversations and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from edgeship.engine.api import Constraint, Conversation, Sampling
from edgeship.errors import RequestInvalid
from edgeship.serve import thoughts
from edgeship.serve.fields import Fields, Several, Stops
from edgeship.serve.logprobs import check_top
from edgeship.serve.messages import MOST_MESSAGES, Tools, turn
from edgeship.serve.models import Opened
from edgeship.system.duration import seconds_in
from edgeship.system.fields import shown

_Unused = bool | int | float | None


class Options(Fields):
    """How an answer is made.

    num_ctx: taken and without effect, since clients send one by habit: all requests share the context that the server
    gives a model, and a prompt that it does not hold is refused.
    Without effect: what says how a machine computes (numa, num_batch, num_gpu, main_gpu, low_vram, f16_kv, use_mmap,
    use_mlock, num_thread); num_keep, since no prompt is ever shortened; and the numbers of mirostat, which is off.
    Only as they are when left out: what would change the answer and is not supported (mirostat, tfs_z, typical_p,
    repeat_last_n, penalize_newline), or the model's use (vocab_only, logits_all, embedding_only).
    """

    only: ClassVar[dict[str, Any]] = {
        "mirostat": 0,
        "tfs_z": 1,
        "typical_p": 1,
        "repeat_last_n": -1,
        "penalize_newline": True,
        "vocab_only": False,
        "logits_all": False,
        "embedding_only": False,
    }

    num_predict: Annotated[int, Field(ge=-2)] | None = None
    num_ctx: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: Annotated[int, Field(ge=-1)] | None = None
    stop: Stops | None = None
    repeat_penalty: Annotated[float, Field(gt=0)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    numa: _Unused = None
    num_batch: _Unused = None
    num_gpu: _Unused = None
    main_gpu: _Unused = None
    low_vram: _Unused = None
    f16_kv: _Unused = None
    use_mmap: _Unused = None
    use_mlock: _Unused = None
    num_thread: _Unused = None
    num_keep: _Unused = None
    mirostat_tau: _Unused = None
    mirostat_eta: _Unused = None


class Asked(Fields):
    """What all answers have in common.

    num_predict: of the options; Open WebUI sends it here.
    Only false: that a prompt is cut where it is too long, or while it is answered, which never happens here.
    """

    only: ClassVar[dict[str, Any]] = {"truncate": False, "shift": False}

    model: Annotated[str, Field(min_length=1)]
    stream: bool = True
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Options = Options()
    keep_alive: float | str | None = None
    think: bool | Literal["low", "medium", "high"] | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    num_predict: Annotated[int, Field(ge=-2)] | None = None

    @property
    def keep_alive_s(self) -> float | None:
        """How long the model is to stay when the answer is done. Raises RequestInvalid."""
        return None if self.keep_alive is None else seconds(self.keep_alive, "keep_alive")

    def sampling(self) -> Sampling:
        """How the answer is made. Raises RequestInvalid."""
        if self.top_logprobs and not self.logprobs:
            raise RequestInvalid("top_logprobs needs logprobs: true", param="top_logprobs")
        check_top(self.top_logprobs, "top_logprobs")
        options = self.options
        most = options.num_predict if options.num_predict is not None else self.num_predict
        return Sampling(
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=0 if options.top_k == -1 else options.top_k,
            min_p=options.min_p,
            repetition_penalty=options.repeat_penalty,
            presence_penalty=options.presence_penalty,
            frequency_penalty=options.frequency_penalty,
            max_tokens=most if most is not None and most > 0 else None,
            seed=None if options.seed == -1 else options.seed,
            stop=tuple(options.stop or ()),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            thinking_tokens=0 if self.think is False else None,
            constraint=self._constraint(),
        )

    def variables(self, opened: Opened) -> dict[str, Any]:
        """What the template is told besides. Raises RequestInvalid for a model without that choice."""
        if isinstance(self.think, str):
            return thoughts.effort(opened, self.think, "think")
        return thoughts.switched(opened, self.think, "think")

    def _constraint(self) -> Constraint | None:
        if not isinstance(self.format, Mapping):
            return Constraint("json_object") if self.format else None
        return Constraint("json_schema", json.dumps(self.format, ensure_ascii=False))


class CalledFunction(Fields):
    """A function's name, and what it is called with. index: of the call."""

    name: str
    arguments: dict[str, Any]
    index: int | None = None


class Call(Fields):
    """A call that the model made."""

    function: CalledFunction
    id: str | None = None
    type: Literal["function"] | None = None
    index: int | None = None

    def in_template(self) -> dict[str, Any]:
        """The same as templates know it."""
        arguments = json.dumps(self.function.arguments, ensure_ascii=False)
        found = {"type": "function", "function": {"name": self.function.name, "arguments": arguments}}
        return found | ({"id": self.id} if self.id else {})


class Message(Fields):
    """One turn. tool_name: of a tool's answer, by whom it is."""

    unread: ClassVar[tuple[str, ...]] = ("images",)

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    tool_calls: Several[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None

    def in_template(self) -> dict[str, Any]:
        """The same as templates know it."""
        return turn(
            self.role,
            self.content,
            reasoning_content=self.thinking,
            tool_calls=[call.in_template() for call in self.tool_calls or ()],
            name=self.tool_name,
            tool_call_id=self.tool_call_id,
        )


class ChatRequest(Asked):
    """A conversation, and how it is to be answered. system: comes before it; Open WebUI sends it so."""

    unread: ClassVar[tuple[str, ...]] = ("template",)

    messages: Several[Message] = Field(default_factory=list, max_length=MOST_MESSAGES)
    tools: Tools | None = None
    system: str = ""

    def conversation(self, opened: Opened) -> Conversation:
        """What is to be answered. Raises RequestInvalid, PromptInvalid."""
        given = self.messages
        if len(given) > 1 and given[-1] == Message(role="assistant"):
            given = given[:-1]  # an answer that was begun with nothing is a new one, as at Ollama
        messages = _told(self.system) + [message.in_template() for message in given]
        last = given[-1]
        continues = last.role == "assistant" and not last.tool_calls
        thoughts.require_none(self.think, "think", continues=continues)
        tools = [tool.in_template() for tool in self.tools or ()]
        return Conversation(messages, tools, self.variables(opened), continues=continues)


class GenerateRequest(Asked):
    """One question, and how it is to be answered. raw: the prompt is read as it is, with no template around it."""

    unread: ClassVar[tuple[str, ...]] = ("suffix", "template", "context", "images")

    prompt: str = ""
    system: str = ""
    raw: bool = False

    def conversation(self, opened: Opened) -> Conversation:
        """What is to be answered. Raises RequestInvalid."""
        messages = [*_told(self.system), {"role": "user", "content": self.prompt}]
        return Conversation(messages, (), self.variables(opened))

    def require_raw(self) -> None:
        """Raises RequestInvalid for what only a template could take up."""
        for name in ("system", "think"):
            if getattr(self, name):
                raise RequestInvalid(f"{name}: a raw prompt has no template that takes it up", param=name)


def seconds(given: float | str, param: str) -> float:
    """A duration as Ollama's clients write it: seconds, or a text such as "5m". Raises RequestInvalid."""
    try:
        return seconds_in(given) if isinstance(given, str) else given
    except ValueError as error:
        raise RequestInvalid(
            f"{param} is {shown(given)}, which is no duration",
            param=param,
            hint='Write seconds, or a text such as "5m" or "1h30m"; 0 unloads the model, -1 keeps it.',
        ) from error


def _told(system: str) -> list[dict[str, Any]]:
    return [turn("system", system)] if system else []
