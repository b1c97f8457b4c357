"""The settings that chat completions and completions share, and what an answer is held to."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from edgeship.engine import response_format
from edgeship.engine.api import Constraint, Sampling
from edgeship.engine.grammar import lark
from edgeship.errors import ConstraintInvalid, RequestInvalid
from edgeship.serve.fields import Fields, No, Several, Stops, Yes

Given = TypeVar("Given")
MOST_ANSWERS = 16
"""To one request."""
_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,8}")  # one name for a token: of two biases, one would count for nothing
_HOLDING = (
    "response_format",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
)


Tokens = Several[Annotated[int, Field(ge=0)]]
"""Token ids, as many as a body holds."""


class StreamOptions(Fields):
    """include_usage: a last chunk tells what was used. continuous_usage_stats: every chunk does."""

    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: No = False


Written = Annotated[str, Field(min_length=1)]
"""A regular expression or a grammar. As at vLLM, an empty one is refused: it would hold an answer to nothing."""
Choice = Annotated[Several[Written], Field(min_length=1)]


class StructuredOutputs(Fields):
    """vLLM's: what an answer is held to, one of them."""

    json_schema: Any = Field(default=None, alias="json")
    regex: Written | None = None
    choice: Choice | None = None
    grammar: Written | None = None
    json_object: Yes | None = None


class Settings(Fields):
    """How an answer is made, as OpenAI, vLLM and llama.cpp's server name it.

    user, safety_identifier, prompt_cache_key, metadata: labels of the client's own; no answer hangs on them.
    """

    only: ClassVar[dict[str, Any]] = {
        "best_of": 1,
        "use_beam_search": False,
        "length_penalty": 1,
        "min_tokens": 0,
        "stop_token_ids": [],
        "bad_words": [],
        "include_stop_str_in_output": False,
        "skip_special_tokens": True,
        "spaces_between_special_tokens": True,
        "return_token_ids": False,
        "return_tokens_as_token_ids": False,
        "priority": 0,
        "cache_prompt": True,
        "store": False,
    }

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ANSWERS)] = 1
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    stop: Stops | None = None
    max_tokens: int | None = None
    ignore_eos: bool = False
    response_format: dict[str, Any] | None = None
    guided_json: dict[str, Any] | str | bool | None = None
    guided_regex: Written | None = None
    guided_choice: Choice | None = None
    guided_grammar: Written | None = None
    structured_outputs: StructuredOutputs | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None

    @property
    def tells_usage(self) -> bool:
        """Whether the last chunk of a stream says what the answer cost."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def tells_usage_always(self) -> bool:
        """Whether each chunk does."""
        return self.tells_usage and self.stream_options is not None and self.stream_options.continuous_usage_stats

    def sampling(self) -> Sampling:
        """The same as engines take it. Raises RequestInvalid, ConstraintInvalid."""
        if self.stream_options is not None and not self.stream:
            raise RequestInvalid("stream_options is for streams", param="stream_options", hint="Add stream: true.")
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=_top_k(self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=_biases(self.logit_bias),
            max_tokens=self.max_tokens,
            seed=self.seed,
            stop=tuple(self.stop or ()),
            ignore_eos=self.ignore_eos,
            constraint=self.constraint(),
        )

    @contextmanager
    def naming_constraint(self) -> Iterator[None]:
        """A constraint that proves wrong in here is blamed on the field that gives it."""
        try:
            yield
        except ConstraintInvalid as error:
            error.param = error.param or next((name for name in _HOLDING if getattr(self, name) is not None), None)
            raise

    def constraint(self) -> Constraint | None:
        """What the answer is held to. Raises RequestInvalid for more than one, ConstraintInvalid."""
        return _the_only_one(
            {
                "response_format": _given(response_format.constraint, self.response_format),
                "guided_json": _given(_schema, self.guided_json),
                "guided_regex": _given(_regex, self.guided_regex),
                "guided_choice": _given(_choice, self.guided_choice),
                "guided_grammar": _given(_grammar, self.guided_grammar),
                "structured_outputs": _given(_structured, self.structured_outputs),
            }
        )


def for_answer(sampling: Sampling, number: int) -> Sampling:
    """The settings of one of several answers to one question: with a seed, each has one of its own."""
    return sampling if sampling.seed is None or number == 0 else replace(sampling, seed=sampling.seed + number)


def continuing(continue_final_message: bool, add_generation_prompt: bool | None) -> bool:
    """Whether the answer goes on with the last message, which vLLM's clients say by both of these.

    Raises RequestInvalid where one of them asks for what the other does not.
    """
    if continue_final_message == (add_generation_prompt is False):
        return continue_final_message
    raise RequestInvalid(
        "continue_final_message: true and add_generation_prompt: false go together",
        param="continue_final_message" if continue_final_message else "add_generation_prompt",
        hint="Give both to go on with the last message, or none of them.",
    )


def _the_only_one(found: Mapping[str, Constraint | None]) -> Constraint | None:
    given = {name: constraint for name, constraint in found.items() if constraint is not None}
    if len(given) > 1:
        names = " and ".join(given)
        raise RequestInvalid(f"an answer is held to one thing, and {names} name several", param=list(given)[1])
    return next(iter(given.values()), None)


def _given(read: Callable[[Given], Constraint | None], value: Given | None) -> Constraint | None:
    return None if value is None else read(value)


def _structured(given: StructuredOutputs) -> Constraint:
    found = _the_only_one(
        {
            "structured_outputs.json": _given(_schema, given.json_schema),
            "structured_outputs.regex": _given(_regex, given.regex),
            "structured_outputs.choice": _given(_choice, given.choice),
            "structured_outputs.grammar": _given(_grammar, given.grammar),
            "structured_outputs.json_object": Constraint("json_object") if given.json_object else None,
        }
    )
    if found is None:
        raise RequestInvalid(
            "structured_outputs holds an answer to nothing",
            param="structured_outputs",
            hint="Give json, regex, choice, grammar or json_object.",
        )
    return found


def _schema(given: Any) -> Constraint:
    return Constraint("json_schema", given if isinstance(given, str) else json.dumps(given, ensure_ascii=False))


def _regex(given: str) -> Constraint:
    return Constraint("regex", given)


def _choice(texts: list[str]) -> Constraint:
    return Constraint("regex", "|".join(re.escape(text) for text in texts))


def _grammar(given: str) -> Constraint:
    return Constraint("lark", lark(given))


def _top_k(given: int | None) -> int | None:
    return 0 if given == -1 else given  # vLLM's word for all tokens


def _biases(given: Mapping[str, float] | None) -> dict[int, float] | None:
    if given is None:
        return None
    strangers = [token for token in given if not _TOKEN_ID.fullmatch(token)]
    if strangers:
        raise RequestInvalid(f"logit_bias names {reprlib.repr(strangers[0])}, which is no token id", param="logit_bias")
    return {int(token): bias for token, bias in given.items()}
