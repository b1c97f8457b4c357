"""The Foundry Local SDK: its catalog of local models, and what a model in it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeship.engine.api import Message
from edgeship.errors import DependencyMissing, FoundryFailed, PromptInvalid
from edgeship.system import telemetry
from edgeship.system.json_file import Complaint, fields_of, read_optional
from edgeship.system.shell import our_install
from edgeship.system.storage import TemporaryFolder

INDEX_NAME = "foundry.local.modelinfo.json"
"""Where a cache folder's catalog of local models is kept."""
_SEE_DOCTOR = "See `edgeship foundry doctor`."
_INVALID_ARGUMENT = 3
_PLACE = re.compile(r"\w+\.cc:\d+ ")


@dataclass(frozen=True)
class Registration:
    """A model in a local catalog. folder: where it was registered; None where that cannot be told.

    context_tokens, size_mb, publisher, task: as the catalog states them.
    """

    name: str
    version: int
    folder: Path | None
    context_tokens: int | None
    size_mb: int | None
    publisher: str | None
    task: str | None

    @property
    def id(self) -> str:
        """name:version."""
        return f"{self.name}:{self.version}"


@dataclass(frozen=True)
class Outcome:
    """What an answer came to. cut: it ended because no more tokens were allowed."""

    prompt_tokens: int
    completion_tokens: int
    cut: bool


class Local:
    """The local catalog of one cache folder; a context manager.

    The library allows one at a time in a process; opening a second raises FoundryFailed. It sends nothing.
    Raises DependencyMissing, FoundryFailed.
    """

    def __init__(self, cache_dir: Path, *, app: str = "edgeship") -> None:
        self.cache_dir = cache_dir
        self._library = _library()
        self._scratch = TemporaryFolder("edgeship-foundry")
        configuration = self._library.Configuration(
            app_name=app,
            app_data_dir=self._scratch.name,
            logs_dir=self._scratch.name,
            model_cache_dir=str(cache_dir),
            log_level=self._library.LogLevel.FATAL,
            disable_nonessential_telemetry=True,
        )
        with _failing_as_ours(cache_dir), telemetry.foundry_quiet():
            self._library.FoundryLocalManager.initialize(configuration)
        self._manager = self._library.FoundryLocalManager.instance
        try:
            with _failing_as_ours(cache_dir):
                self._catalog = self._manager.get_catalog(self._library.CatalogType.LOCAL)
        except FoundryFailed:
            self.close()
            raise

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unloads what is loaded and gives the library back."""
        self._manager.close()
        self._scratch.cleanup()

    def registrations(self) -> list[Registration]:
        """Every model in the catalog, latest versions of a name first."""
        with _failing_as_ours(self.cache_dir):
            variants = [variant for model in self._catalog.list_models() for variant in model.variants]
            # The library gives no path for a folder that is gone; its file does.
            paths = registered_folders(self.cache_dir)
            return [self._describe(variant.info, variant.get_path(), paths) for variant in variants]

    def register(self, folder: Path, model_id: str, texts: Mapping[str, str], numbers: Mapping[str, int]) -> None:
        """Puts a folder into the catalog under "name:version"; one that is there under this id is replaced.

        texts, numbers: metadata besides the task.
        """
        with _failing_as_ours(self.cache_dir), self._library.ModelInfoBuilder() as facts:
            facts.set_string_property("task", "chat-completion")
            for key, text in texts.items():
                facts.set_string_property(key, text)
            for key, number in numbers.items():
                facts.set_int_property(key, number)
            if self._catalog.get_model_variant(model_id) is not None:
                self._catalog.unregister_model(model_id)
            self._catalog.register_model(str(folder), model_id, facts)

    def unregister(self, model_id: str) -> None:
        """Takes "name:version" out of the catalog; its folder stays."""
        if ":" not in model_id:  # a name alone would take out all its versions
            raise ValueError(model_id)
        with _failing_as_ours(self.cache_dir):
            self._catalog.unregister_model(model_id)

    def load(self, model_id: str) -> LoadedModel:
        """The model, ready to answer. Raises FoundryFailed where it cannot be loaded."""
        with _failing_as_ours(self.cache_dir):
            model = self._catalog.get_model_variant(model_id)
            if model is None:
                raise FoundryFailed(f"{model_id} is not in the catalog", where=str(self.cache_dir))
            model.load()
        return LoadedModel(self._library, model)

    def _describe(self, info: Any, path: str, paths: Mapping[str, str]) -> Registration:
        known = path or paths.get(info.id)
        return Registration(
            name=info.name,
            version=info.version,
            folder=Path(known) if known else None,
            context_tokens=info.context_length,
            size_mb=info.file_size_mb,
            publisher=info.publisher,
            task=info.task,
        )


def registered_folders(cache_dir: Path) -> dict[str, str]:
    """The folder of each model by its id, as the file says in which the library keeps them. Raises FoundryFailed."""
    path, complaint = cache_dir / INDEX_NAME, Complaint(FoundryFailed, _SEE_DOCTOR)
    models = fields_of(read_optional(path, complaint), path, complaint).parts("models")
    ids = (model.part("model_info").text("id") for model in models)
    return {name: model.text("model_path") or "" for name, model in zip(ids, models, strict=True) if name}


class LoadedModel:
    """A model that is loaded. Any number of threads may ask it at the same time."""

    def __init__(self, library: Any, model: Any) -> None:
        self._library, self._model = library, model

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        """How many tokens Foundry Local makes of a conversation. Raises PromptInvalid, FoundryFailed."""
        with (
            _failing_as_ours(None),
            self._library.ChatSession(self._model) as session,
            self._request(messages, {"max_output_tokens": "1"}) as request,
        ):
            return int(session.preflight_request(request).prompt_tokens)

    def answer(
        self, messages: Sequence[Message], options: Mapping[str, str], tell: Callable[[str], bool]
    ) -> Outcome | None:
        """Answers a conversation; `tell` gets each piece of text and says whether to go on. None where it said no.

        options: by the library's names. Reading the prompt cannot be stopped.
        Raises PromptInvalid, FoundryFailed.
        """
        with _failing_as_ours(None), self._library.ChatSession(self._model) as session:
            session.set_streaming(True)
            with self._request(messages, options) as request, session.process_streaming_request(request) as stream:
                for item in stream:
                    if not tell(item.text):
                        return None
                with stream.final_response as response:
                    usage = response.get_usage()
                    cut = response.finish_reason == self._library.FinishReason.LENGTH
                    return Outcome(usage.prompt_tokens, usage.completion_tokens, cut)

    def unload(self) -> None:
        """Frees its memory."""
        with _failing_as_ours(None):
            self._model.unload()

    def _request(self, messages: Sequence[Message], options: Mapping[str, str]) -> Any:
        request = self._library.Request()
        for message in messages:
            role = self._library.MessageRole[message["role"].upper()]
            request.add_item(self._library.MessageItem(role, message["content"]))
        request.set_options(self._library.RequestOptions(additional_options=dict(options)))
        return request


def _library() -> Any:
    telemetry.switch_off()
    try:
        import foundry_local_sdk
    except ImportError as error:
        raise DependencyMissing(
            f"the Foundry Local SDK cannot be imported: {error}", hint=our_install("foundry")
        ) from error
    return foundry_local_sdk


@contextmanager
def _failing_as_ours(cache_dir: Path | None) -> Iterator[None]:
    """What the SDK raises, as ours; what it says is wrong with a request, as PromptInvalid."""
    try:
        yield
    except (FoundryFailed, PromptInvalid):
        raise
    except Exception as error:  # besides its own, it raises RuntimeError and ValueError
        if getattr(error, "error_code", None) == _INVALID_ARGUMENT and cache_dir is None:
            raise PromptInvalid(f"Foundry Local refuses it: {_cause(error)}") from error
        raise FoundryFailed(
            f"Foundry Local failed: {_cause(error)}",
            where=str(cache_dir) if cache_dir else None,
            hint=_SEE_DOCTOR,
        ) from error


def _cause(error: Exception) -> str:
    """The message without the place in the library's source that it begins with."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    place = _PLACE.match(text)
    if not place:
        return text
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == ")" and depth == 0:
            return text[index + 1 :].removeprefix(" const").strip()
    return text[place.end() :]
