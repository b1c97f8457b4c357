"""A server with an API like OpenAI's, as a Chat: one thread for all of its answers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import queue
import re
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from edgeship.engine import address
from edgeship.engine.api import (
    AnswerSteps,
    Conversation,
    EngineFault,
    FinishReason,
    OnStep,
    Sampling,
    Stats,
    Token,
    Usage,
    check_sampling,
    utf8,
)
from edgeship.engine.completions import END, Chunks, is_called, message_of, request
from edgeship.engine.pacing import Callbacks
from edgeship.engine.steps import LOOK_S, Cut, Owner
from edgeship.errors import (
    ContextFull,
    EdgeshipError,
    EngineBusy,
    EngineFailed,
    PromptInvalid,
    RemoteFailed,
    UsageError,
)
from edgeship.system import border, json_file

if TYPE_CHECKING:
    import httpx2

_log = logging.getLogger("edgeship.engine")
_Some = TypeVar("_Some")

CONNECT_S = 10.0
SILENT_S = 600.0
"""For so long a server may say nothing: it reads a long prompt, or has others before us."""
LIST_S = 60.0
"""For so long a server may list its models."""
MOST_EVENT_BYTES = 1 << 20
_MOST_BODY_BYTES = 4 << 20
# For so long a stream is read on after its last event: a connection is used again only if its stream has ended.
_REST_S = 1.0
# By which names servers tell how long prompt and answer may be: vLLM's, llama.cpp's, others'.
_CONTEXT_NAMES = ("max_model_len", "n_ctx", "context_length", "context_window")
_CONTEXT_FULL = re.compile(r"context.{0,20}(length|size|window)|(exceed|longer).{0,40}context", re.IGNORECASE)
_LISTED_MODELS = 10
_NOT_THERE = (404, 405, 501)
_IS_IT_ONE = "Is it the address of an API like OpenAI's?"
_IS_IT_FOR_THEM = "Is its model one for embeddings?"


class Reader(Protocol):
    """Makes steps of the events of a stream. It is asked in the thread that reads all streams, so it must not wait."""

    def push(self, data: str) -> Token | None:
        """The step that an event makes, if it makes one. Raises RemoteFailed."""
        ...

    def end(self) -> Token:
        """The last step, once the stream has ended. Raises RemoteFailed where that is too early."""
        ...

    def usage(self) -> Usage:
        """What the answer has cost so far."""
        ...


class RemoteChat:
    """See Chat. What a server refuses is raised with an answer's first step.

    names: all that the server calls the model.
    url: of the API, such as http://localhost:8080/v1. model: may be left out where the server has only one.
    extras: whether the server may be asked for what vLLM and llama.cpp's server take besides: top_k, min_p,
    repetition_penalty, ignore_eos, thinking_tokens and variables of the chat template.
    strict: whether an answer of another model than the one that is asked is an error.
    Raises UsageError where a model must be named, RemoteFailed.
    """

    name = "remote"
    note: str | None = None
    codec = None

    def __init__(
        self,
        url: str,
        model: str | None = None,
        api_key: str | None = None,
        *,
        extras: bool = False,
        strict: bool = False,
    ) -> None:
        self.url, self.defaults = address.read(url), Sampling()
        self._key, self._extras, self._strict = _checked_key(api_key), extras, strict
        self._lock, self._owner = threading.Lock(), Owner()
        self._open: set[_Answer] = set()
        self._closed = False
        # Whoever is called back may take their time: the thread that talks to the server goes on.
        self._callbacks = Callbacks("edgeship remote callbacks")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="edgeship remote", daemon=True)
        self._thread.start()
        try:
            self._client = self._wait_for(self._connect())
            self.model, self.context_tokens, self.names = self._wait_for(self._choose(model))
        except BaseException:
            self.close()
            raise

    # --- the contract ------------------------------------------------------------------------------------------------

    def converse(
        self,
        conversation: Conversation,
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        """See Chat.converse. Raises NotSupported for what an API like OpenAI's has no place for."""
        check_sampling(sampling)
        body = request(self.model, conversation, sampling, extras=self._extras)
        may_answer = (lambda name: is_called(name, self.model, self.names)) if self._strict else None
        reader = partial(Chunks, may_answer=may_answer)
        return self.send(body, reader, cancel=cancel, deadline_s=deadline_s, on_step=on_step)

    def send(
        self,
        body: Mapping[str, Any],
        reader: Callable[[float], Reader],
        *,
        cancel: threading.Event | None = None,
        deadline_s: float | None = None,
        on_step: OnStep | None = None,
    ) -> AnswerSteps:
        """The same for the body of a request as it is. reader: makes what reads the stream, given when it was asked."""
        self._owner.require()
        content = utf8(json.dumps(body, ensure_ascii=False))
        answer = _Answer(content, reader, self._callbacks, cancel, deadline_s, on_step)
        with self._lock:
            if self._closed:
                raise EngineFailed("the chat is closed")
            self._open.add(answer)
            asyncio.run_coroutine_threadsafe(self._make(answer), self._loop)
        return answer.steps()

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Each text as a vector, by the server's model. Raises RemoteFailed, and as the first step of an answer."""
        said = self._said("embeddings", {"model": self.model, "input": list(texts), "encoding_format": "float"})
        try:
            listed = sorted(json_file.parse(said, finite=True)["data"], key=lambda each: int(each["index"]))
            vectors = [[float(number) for number in each["embedding"]] for each in listed]
            if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
                raise ValueError("there is not one vector for each text, all of one length")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"the server's embeddings cannot be read: {error!r}"
            raise RemoteFailed(self._without_key(what), where=self.url, hint=_IS_IT_FOR_THEM) from error
        return vectors

    def tell(self, path: str, body: Mapping[str, Any]) -> Any:
        """What the server says to a request that is answered at once, as JSON. path: beside its /v1, as "/tokenize".

        Raises RemoteFailed and what else a server refuses with.
        """
        place = f"..{path}" if self.url.endswith("/v1") else path.lstrip("/")
        try:
            return json_file.parse(self._said(place, body, LIST_S))
        except (ValueError, TimeoutError) as error:
            raise RemoteFailed(f"what the server says to {path} cannot be read", where=self.url) from error

    def prompt_logprobs(self, tokens: Sequence[int]) -> list[Any]:
        """What the server says of each token of a prompt, as vLLM and Edgeship's own server tell it.

        Of the first None, and of each other the likeliest token and itself by their ids, as
        {"id": {"logprob": ..., "rank": ..., "decoded_token": ...}}. Nothing where the server tells none.
        Raises RemoteFailed, and what a server's refusal raises.
        """
        asked = {"model": self.model, "prompt": list(tokens), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1}
        try:
            found = json_file.parse(self._said("completions", asked))["choices"][0].get("prompt_logprobs")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise RemoteFailed("the server's completion cannot be read", where=self.url, hint=_IS_IT_ONE) from error
        return found if isinstance(found, list) else []

    def stats(self) -> Stats:
        """See Chat.stats; only what was asked from here is known."""
        return Stats(len(self._open), 0, None)

    def close(self) -> None:
        """See Chat.close."""
        if not self._owner.here:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop)
        self._thread.join()
        self._callbacks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- in its thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _wait_for(self, work: Coroutine[Any, Any, _Some]) -> _Some:
        done: queue.SimpleQueue[concurrent.futures.Future[_Some]] = queue.SimpleQueue()
        asyncio.run_coroutine_threadsafe(work, self._loop).add_done_callback(done.put)
        return border.take(done).result()

    async def _connect(self) -> httpx2.AsyncClient:
        import httpx2

        return httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(SILENT_S, connect=CONNECT_S),
            limits=httpx2.Limits(max_connections=None),
            follow_redirects=False,  # neither prompts nor the key go anywhere else
            trust_env=not _is_this_machine(self.url),
        )

    async def _disconnect(self) -> None:
        for answer in self._open.copy():
            answer.put(EngineFailed("the chat is closed"))
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if client := getattr(self, "_client", None):
            await client.aclose()
        await self._loop.shutdown_asyncgens()
        self._loop.stop()

    async def _make(self, answer: _Answer) -> None:
        reading = asyncio.ensure_future(self._read(answer))
        with answer.making():
            await self._follow(answer, reading)

    async def _follow(self, answer: _Answer, reading: asyncio.Future[None]) -> None:
        try:
            while not answer.look():
                await asyncio.wait({reading}, timeout=LOOK_S)
                if reading.done():
                    await reading
                    break
            if answer.complete:
                await asyncio.wait({reading}, timeout=_REST_S)
        finally:
            with self._lock:
                self._open.discard(answer)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, answer: _Answer) -> None:
        from httpx2 import EventSource

        async with self._ask("POST", "chat/completions", answer.body) as response:
            async for event in EventSource(response, MOST_EVENT_BYTES):
                if answer.complete:
                    continue
                if event.data == END:
                    answer.end()
                elif step := answer.chunks.push(event.data):
                    answer.put(step)
        answer.end()

    def _said(self, place: str, body: Mapping[str, Any], within_s: float | None = None) -> bytes:
        """The body of what the server says at a place below its address. Raises TimeoutError, and as `_ask` does."""
        self._owner.require()
        return self._wait_for(self._posted(place, utf8(json.dumps(body, ensure_ascii=False)), within_s))

    async def _posted(self, place: str, body: bytes, within_s: float | None) -> bytes:
        async with asyncio.timeout(within_s), self._ask("POST", place, body) as response:
            return await _body(response)

    async def _choose(self, model: str | None) -> tuple[str, int | None, frozenset[str]]:
        """The model that is meant, how long prompt and answer may be, where the server tells, and all of its names."""
        try:
            async with asyncio.timeout(LIST_S):
                listed = await self._models()
        except TimeoutError as error:
            what = f"the server has not listed its models within {LIST_S:.0f} s"
            raise RemoteFailed(what, where=self.url, hint="Ask again.") from error
        if model is None:
            different = _by_one_name(listed)
            if len(different) != 1:
                names = ", ".join(different[:_LISTED_MODELS]) + (", ..." if len(different) > _LISTED_MODELS else "")
                raise UsageError(
                    f"the server has {len(different)} models: {names}" if different else "the server lists no model",
                    where=self.url,
                    hint="Name the one that is meant: `--model NAME`, in Python `model=`.",
                )
            [model] = different
        entry = listed.get(model, {})
        root = entry.get("root")
        same = {name for name, other in listed.items() if isinstance(root, str) and other.get("root") == root}
        return model, _context_tokens(entry), frozenset({model, *same})

    async def _models(self) -> dict[str, Mapping[str, Any]]:
        """What the server says of each of its models; nothing where it lists none."""
        try:
            async with self._ask("GET", "models", allowed=_NOT_THERE) as response:
                if response.status_code in _NOT_THERE:
                    return {}
                body = json_file.parse(await _body(response))
            return {_checked_id(entry["id"]): entry for entry in body["data"]}
        except (ValueError, KeyError, TypeError) as error:
            raise RemoteFailed("the server's list of models cannot be read", where=self.url, hint=_IS_IT_ONE) from error

    @asynccontextmanager
    async def _ask(
        self, method: str, path: str, body: bytes | None = None, *, allowed: Collection[int] = ()
    ) -> AsyncIterator[httpx2.Response]:
        import httpx2

        headers = {"Content-Type": "application/json"} if body else {}
        try:
            async with self._client.stream(method, f"{self.url}/{path}", content=body, headers=headers) as response:
                if response.status_code not in (httpx2.codes.OK, *allowed):
                    raise self._refusal(response, await _body(response))
                yield response
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, LookupError) as error:
            raise self._failure(error) from error

    def _refusal(self, response: httpx2.Response, body: bytes) -> EdgeshipError:
        """What a server says by its status."""
        status, said = response.status_code, self._told(body)
        if response.has_redirect_location:
            place = response.headers["Location"].split("?")[0]
            what, hint = f"the server sends requests on to {place}", "Give that address, if you trust it."
            return RemoteFailed(what, where=self.url, hint=hint)
        if status in (401, 403):
            what, hint = f"the server wants another key ({status}): {said}", "Give the key that the server takes."
            return RemoteFailed(what, where=self.url, hint=hint)
        if status in _NOT_THERE:
            what = f"the server knows no such model or request ({status}): {said}"
            return RemoteFailed(what, where=self.url, hint=_IS_IT_ONE)
        if status in (429, 503):
            wait = response.headers.get("Retry-After")
            hint = f"Try again in {wait} s." if wait and wait.isdecimal() else "Try again later."
            return EngineBusy(f"the server is busy ({status}): {said}", where=self.url, hint=hint)
        if status in (400, 413, 422):
            kind = ContextFull if _CONTEXT_FULL.search(said) else PromptInvalid
            return kind(f"the server refuses the request ({status}): {said}", where=self.url)
        return RemoteFailed(f"the server failed ({status}): {said}", where=self.url)

    def _failure(self, error: Exception) -> RemoteFailed:
        """What went wrong between us and a server."""
        import httpx2

        hint: str | None = "Ask again."
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            what = f"no server answers there: {error or 'it took too long'}"
            hint = "Start the server, or mend the address."
        elif isinstance(error, httpx2.TimeoutException):
            what = f"the server said nothing for {SILENT_S:.0f} s"
        elif isinstance(error, httpx2.SSEError | UnicodeError | LookupError):
            what, hint = f"the server sends no stream of events that can be read: {error}", _IS_IT_ONE
        else:
            what = f"the connection to the server broke: {error or type(error).__name__}"
        return RemoteFailed(self._without_key(what), where=self.url, hint=hint)

    def _told(self, body: bytes) -> str:
        """A server's own message."""
        text = body.decode("utf-8", "replace").strip()
        try:
            return self._without_key(message_of(json_file.parse(text)))
        except (ValueError, RecursionError):
            return self._without_key(message_of(text)) or "it does not say why"

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


class _Answer:
    """One answer in the making. For the thread that makes it, but for `steps`."""

    def __init__(
        self,
        body: bytes,
        reader: Callable[[float], Reader],
        callbacks: Callbacks,
        cancel: threading.Event | None,
        deadline_s: float | None,
        on_step: OnStep | None,
    ) -> None:
        self.body = body
        self.over = self.complete = False
        self._cut = Cut(cancel, deadline_s)
        self.chunks = reader(self._cut.asked_s)
        self._dropped = threading.Event()
        self._steps = callbacks.steps(on_step, self._dropped.set)

    def steps(self) -> AnswerSteps:
        """For whoever asked: the steps, or none where they are called back."""
        return self._steps.given(self._dropped.set, lambda _: self.chunks.usage(), self._cut.cancel)

    def put(self, step: Token | Exception) -> None:
        """The next step; after the last one nothing follows."""
        if not self.over:
            self.over = isinstance(step, Exception) or step.finish is not None
            self._steps.put(step)

    @contextmanager
    def making(self) -> Iterator[None]:
        """Around all of its making: whatever that raises is the answer's last step, unless it had one."""
        try:
            yield
        except EdgeshipError as error:
            self.put(error)
        except Exception as error:
            if not self.over:
                _log.exception("an answer ends with an error that nobody foresaw")
            fault = EngineFault(f"{type(error).__name__}: {error}")
            fault.__cause__ = error
            self.put(fault)

    def end(self) -> None:
        """The stream has ended."""
        self.put(self.chunks.end())
        self.complete = True

    def look(self) -> bool:
        """Cuts it where that is due; whether it is over."""
        why: FinishReason | None = "cancelled" if self._dropped.is_set() else self._cut.due()
        if why:
            self.put(Token(None, "", why, usage=self.chunks.usage()))
        return self.over


def _checked_key(key: str | None) -> str | None:
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise UsageError("the API key holds characters that no key has", hint="Was a line break copied with it?")
    return key


def _is_this_machine(url: str) -> bool:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def _checked_id(model: object) -> str:
    if not isinstance(model, str):
        raise TypeError(f"a model is called {model!r}")
    return model


async def _body(response: httpx2.Response) -> bytes:
    """A short body; of a longer one, its beginning."""
    found = b""
    async for part in response.aiter_bytes():
        found += part
        if len(found) > _MOST_BODY_BYTES:
            break
    return found[:_MOST_BODY_BYTES]


def _by_one_name(listed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The first name of each model. A model's names have the same `root` at vLLM, and at Edgeship's own server."""
    first: dict[Any, str] = {}
    for name, entry in listed.items():
        root = entry.get("root")
        first.setdefault(root if isinstance(root, str) else name, name)
    return list(first.values())


def _context_tokens(entry: Mapping[str, Any]) -> int | None:
    meta = entry.get("meta")
    for told in (entry, meta if isinstance(meta, Mapping) else {}):
        for name in _CONTEXT_NAMES:
            if isinstance(told.get(name), int) and told[name] > 0:
                return int(told[name])
    return None
