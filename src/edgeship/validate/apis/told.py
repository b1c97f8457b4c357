"""What an answer says, by whichever API and whether whole or in a stream, and what of it is not as it should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgeship.measure.cases import schemas
from edgeship.system import json_file
from edgeship.validate.apis.shapes import Schema

Finish = Literal["stop", "length", "other"]


@dataclass
class Told:
    """text: of the answer alone, without thoughts and calls. pieces: in how many events it came.

    finish: why it ended; None where nothing says so. ended: whether the stream's last word was its last event.
    ids, models: all that were given. calls: the arguments of each call, as JSON, by its name.
    faults: what is wrong with its form, in words.
    """

    text: str = ""
    pieces: int = 0
    finish: Finish | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    ids: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    calls: list[list[str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, text: Any) -> None:
        """More of the answer. Raises TypeError where it is no text."""
        if not isinstance(text, str):
            raise TypeError(f"its text is {text!r}")
        if text:
            self.text += text
            self.pieces += 1

    def cost(self, usage: Any, prompt: str, completion: str, total: str = "") -> None:
        """What it cost, where that is told; by the names that its fields have."""
        if isinstance(usage, dict):
            for name, key in (("prompt_tokens", prompt), ("completion_tokens", completion), ("total_tokens", total)):
                if type(usage.get(key)) is int:
                    setattr(self, name, usage[key])

    def end(self, reason: Any, reasons: Mapping[str, Finish]) -> None:
        """Why it ended."""
        if isinstance(reason, str):
            self.finish = reasons.get(reason, "other")

    def named(self, said: dict[str, Any]) -> None:
        """By what and as what it was given."""
        for names, key in ((self.ids, "id"), (self.models, "model")):
            if isinstance(said.get(key), str):
                names.add(said[key])

    def hold(self, schema: Schema, value: Any, what: str) -> bool:
        """Whether a value fits a schema; what does not is a fault."""
        fault = schemas.fault(schema, value)
        if fault:
            self.faults.append(f"{what}: {fault}")
        return fault is None


@dataclass(frozen=True)
class Event:
    """One of a stream. name: as its own line gives it. data: its JSON; None where it is no JSON."""

    name: str | None
    data: Any
    raw: bytes


def events(body: bytes, faults: list[str]) -> Iterator[Event]:
    """The server-sent events of a body; those that cannot be read are faults."""
    for number, block in enumerate(part for part in body.replace(b"\r\n", b"\n").split(b"\n\n") if part.strip()):
        fields = [line.partition(b":")[::2] for line in block.strip(b"\n").split(b"\n") if not line.startswith(b":")]
        said = b"\n".join(value.removeprefix(b" ") for name, value in fields if name == b"data")
        names = [value.strip().decode("utf-8", "replace") for name, value in fields if name == b"event"]
        strange = {name for name, _ in fields} - {b"data", b"event", b"id", b"retry"}
        if strange:
            faults.append(f"event {number}: {sorted(strange)[0]!r} is no field of an event")
        if fields:
            yield Event(names[0] if names else None, value_of(said, f"event {number}", faults), said)


def lines(body: bytes, faults: list[str]) -> Iterator[Event]:
    """The same of lines of JSON."""
    for number, line in enumerate(line for line in body.split(b"\n") if line.strip()):
        yield Event(None, value_of(line, f"line {number}", faults), line)


DONE = b"[DONE]"


def value_of(said: bytes, what: str, faults: list[str]) -> Any:
    """The JSON in it; None where it is none, which is a fault unless it is OpenAI's last word."""
    if said == DONE:
        return None
    try:
        return json_file.parse(said.decode("utf-8"), finite=True)
    except UnicodeDecodeError:
        faults.append(f"{what} is no UTF-8: it begins or ends within a character")
    except ValueError as error:
        faults.append(f"{what} is no JSON: {error}")
    return None
