"""Foundry Local's catalog of local models: what is in it, putting a package in, taking it out."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgeship import manifest as manifests
from edgeship.engine.api import Message, Sampling, Usage
from edgeship.engine.chat import ask
from edgeship.engine.foundry_sdk import INDEX_NAME, Local, Registration
from edgeship.engine.isolated import IsolatedEngine
from edgeship.engine.onnx_decoder import kv_token_bytes
from edgeship.engine.tokens import read_json
from edgeship.errors import EngineFailed, FoundryFailed, RegistrationNotFound, UsageError
from edgeship.foundry import layout
from edgeship.foundry.checks import Candidate, require_undamaged
from edgeship.progress import Progress, silent
from edgeship.storage import locked, megabytes, require_writable

DEFAULT_ANSWER_TOKENS = 2048
"""What Foundry Local reserves for an answer where a request does not say."""
RESERVED_BYTES = 256 * 10**6
"""The most that is reserved for keys and values at every request: clearing it takes a tenth to half a second."""
QUESTION = "Hello"
"""What a model is asked to prove that it answers."""
CHAT_TASKS = ("chat-completion", "coding")
"""Tasks of Foundry Local's catalog whose models answer conversations of text."""
_PROOF_TOKENS = 4
_LOCK_WAIT_S = 600.0
_LEAST_CONTEXT = 128
_ELSEWHERE = "name another with --foundry-cache-dir."


@dataclass(frozen=True)
class App:
    """An application that uses Foundry Local: its name, and its model cache, which holds its catalog."""

    name: str
    cache_dir: Path

    def open(self) -> Local:
        """The catalog. Raises DependencyMissing, FoundryFailed, NotWritable, DiskShort."""
        require_writable(self.cache_dir, _ELSEWHERE)
        return Local(self.cache_dir, app=self.name)


@dataclass(frozen=True)
class Proof:
    """That a model was loaded, asked and unloaded. answer: its first tokens."""

    question: str
    answer: str
    usage: Usage


@dataclass(frozen=True)
class Registered:
    """A package that is now a model of Foundry Local. new: False where the same was registered already."""

    id: str
    laid: layout.Laid
    tuning: layout.Tuning
    new: bool
    proof: Proof
    notes: tuple[str, ...]


def tune(candidate: Candidate, *, threads: int, context_tokens: int | None = None) -> layout.Tuning:
    """How a package is run with so many threads, and a context that may be smaller than its own.

    Raises UsageError for a context that the package does not have, EngineFailed where it does not say its shape.
    """
    most = candidate.config.context_tokens
    context = most if context_tokens is None else context_tokens
    if not min(_LEAST_CONTEXT, most) <= context <= most:
        raise UsageError(
            f"a context of {context:,} tokens is not possible: the package has {most:,}",
            hint=f"Give one from {_LEAST_CONTEXT} to {most}.",
        )
    reserved = kv_token_bytes(candidate.config) * context
    return layout.Tuning(threads, context, reserves=reserved <= RESERVED_BYTES)


def registrations(app: App) -> list[Registration]:
    """Every model in the catalog; nothing is made where there is none yet. Raises as App.open does."""
    if not (app.cache_dir / INDEX_NAME).is_file():
        return []
    with app.open() as local:
        return local.registrations()


def fault(registration: Registration) -> str | None:
    """Why a model in the catalog cannot be run; None where nothing speaks against it."""
    folder = registration.folder
    if folder is None or not folder.is_dir():
        return f"its folder is gone{f': {folder}' if folder else ''}"
    if not (folder / "genai_config.json").is_file():
        return "its folder holds no genai_config.json"
    if not any(".onnx" in path.name for path in folder.iterdir()):
        return "its folder holds no ONNX model"
    if registration.task not in CHAT_TASKS:
        return f"its task is {registration.task}, and no chat"
    return None


def find(app: App, ref: str) -> Registration:
    """The model called name or name:version, the latest version by default.

    Raises RegistrationNotFound, NameInvalid, FoundryFailed where its folder is gone, and as App.open does.
    """
    found = max(_select(app, registrations(app), ref), key=lambda each: each.version)
    problem = fault(found)
    if problem:
        raise FoundryFailed(
            f"{found.id} cannot be run: {problem}",
            where=str(app.cache_dir),
            hint=f"Register it again, or take it out: edgeship foundry unregister {found.id}",
        )
    return found


def register(candidate: Candidate, app: App, tuning: layout.Tuning, *, progress: Progress = silent) -> Registered:
    """Makes a checked package a model of Foundry Local: laid out for this machine, proven, and in the catalog.

    Where anything fails, nothing is registered and what was there stays.
    Raises PackageDamaged, EngineFailed where it does not answer, TemplateMismatch where Foundry Local reads another
    prompt, CacheBusy, and as App.open does.
    """
    target = layout.place(app.cache_dir, candidate.name, candidate.version)
    change = partial(layout.tuned, tuning=tuning)
    with _owned(app, progress):
        progress("laying out", None)
        with layout.laid_out(candidate, target, change) as laid:
            progress("proving that it answers", None)
            proof = _proven(candidate, laid.folder)
        progress("registering", None)
        with app.open() as local:
            before = {each.id: each for each in local.registrations()}.get(candidate.id)
            local.register(target, candidate.id, *_facts(candidate, tuning, laid))
            _require_registered(local, candidate, target)
    return Registered(
        id=candidate.id,
        laid=layout.Laid(target, laid.linked_bytes, laid.copied_bytes),
        tuning=tuning,
        new=before is None,
        proof=proof,
        notes=_notes(candidate, tuning, before, target),
    )


def unregister(app: App, ref: str) -> list[Registration]:
    """Takes one version, or all of a name, out of the catalog; what was.

    Folders that `register` laid out are deleted, others stay. Raises RegistrationNotFound, NameInvalid, CacheBusy, and
    as App.open does.
    """
    _select(app, registrations(app), ref)  # before anything is made in the folder
    with _owned(app, silent), app.open() as local:
        chosen = _select(app, local.registrations(), ref)
        for each in chosen:
            local.unregister(each.id)
    for each in chosen:
        if each.folder == layout.place(app.cache_dir, each.name, each.version):
            layout.remove(each.folder)
    return chosen


def _proven(candidate: Candidate, folder: Path) -> Proof:
    """The proof of a package that is undamaged too: what takes longest of both is done side by side."""
    with ThreadPoolExecutor(1) as pool:
        undamaged = pool.submit(require_undamaged, candidate)
        try:
            return prove(folder, [each.messages for each in candidate.conversations])
        finally:
            undamaged.result()  # says more than what a damaged model fails with


def prove(folder: Path, conversations: Sequence[Sequence[Message]] = ()) -> Proof:
    """Loads a folder in Foundry Local, asks it and unloads it, in a process of its own.

    conversations: whose prompts Foundry Local must render as the package's template does.
    Raises EngineFailed, TemplateMismatch, FoundryFailed, DependencyMissing.
    """
    engine = IsolatedEngine(folder, engine="foundry")
    try:
        for messages in conversations:
            engine.chat(messages)  # raises where Foundry Local makes other tokens of it
        prompt = engine.chat([{"role": "user", "content": QUESTION}])
        answer = ask(engine, prompt, Sampling(temperature=0.0, max_tokens=_PROOF_TOKENS))
    finally:
        engine.close()
    if answer.usage.completion_tokens < 1:
        raise EngineFailed(
            f"Foundry Local loads the model, and it answers {QUESTION!r} with nothing",
            where=str(folder),
            hint="Run the package with Edgeship's own engine to see whether it answers: edgeship model run NAME",
        )
    return Proof(QUESTION, answer.text, answer.usage)


@contextmanager
def _owned(app: App, progress: Progress) -> Iterator[None]:
    """Holds an application's catalog against other processes of ours."""
    require_writable(app.cache_dir, _ELSEWHERE)
    lock = app.cache_dir / f".{layout.PUBLISHER}.lock"
    with locked(lock, _LOCK_WAIT_S, progress, what=f"Foundry Local's catalog of {app.name}"):
        yield


def _select(app: App, known: list[Registration], ref: str) -> list[Registration]:
    name, version = manifests.parse_ref(ref)
    named = [each for each in known if each.name == name]
    chosen = [each for each in named if version in (None, each.version)]
    if chosen:
        return chosen
    if named:
        hint = f"Registered: {', '.join(each.id for each in named)}."
    else:
        close = difflib.get_close_matches(name, sorted({each.name for each in known}))
        hint = (f"Did you mean {' or '.join(close)}? " if close else "") + "`edgeship foundry ls` lists all."
    raise RegistrationNotFound(
        f"no model called {ref!r} is registered for the application {app.name!r}",
        where=str(app.cache_dir),
        hint=hint,
    )


def _facts(candidate: Candidate, tuning: layout.Tuning, laid: layout.Laid) -> tuple[dict[str, str], dict[str, int]]:
    """Metadata for the catalog: texts and numbers."""
    texts = {"display_name": candidate.name, "publisher": layout.PUBLISHER}
    licence = candidate.manifest.checkpoint.get("licence") if candidate.manifest else None
    if licence:
        texts["license"] = str(licence)
    size = laid.linked_bytes + laid.copied_bytes
    return texts, {"filesize_mb": -(-size // 10**6), "context_length": tuning.context_tokens}


def _require_registered(local: Local, candidate: Candidate, target: Path) -> None:
    """That the catalog, read anew, has the model where it was put."""
    found = {each.id: each for each in local.registrations()}.get(candidate.id)
    if found is None or found.folder is None or not found.folder.samefile(target):
        raise FoundryFailed(
            f"Foundry Local took {candidate.id} and does not list it",
            where=str(local.cache_dir),
            hint="See `edgeship foundry doctor`.",
        )


def _notes(candidate: Candidate, tuning: layout.Tuning, before: Registration | None, target: Path) -> tuple[str, ...]:
    notes = []
    if before is not None and before.folder != target:
        notes.append(f"{candidate.id} was registered before, from {before.folder or 'a folder that is gone'}")
    context = tuning.context_tokens
    if not tuning.reserves:
        token_bytes = kv_token_bytes(candidate.config)
        notes.append(
            f"keys and values grow with a conversation: Foundry Local would reserve those of all {context:,} tokens, "
            f"{megabytes(context * token_bytes)}, at every request; --context-tokens {_fitting(token_bytes)} has them "
            "reserved, which is faster in long conversations"
        )
    if context <= DEFAULT_ANSWER_TOKENS:
        notes.append(
            f"every request must set max_output_tokens: Foundry Local reserves {DEFAULT_ANSWER_TOKENS:,} tokens for an "
            f"answer otherwise, and refuses it since this model's context holds {context:,} in all"
        )
    if not _samples(candidate.folder):
        notes.append(
            "the package answers greedily, and so it does here unless a request sets top_k: Foundry Local samples "
            "whatever the package says"
        )
    return tuple(notes)


def _fitting(token_bytes: int) -> int:
    """A round number of tokens whose keys and values are reserved."""
    tokens = RESERVED_BYTES // token_bytes
    return tokens - tokens % 1024 if tokens > 1024 else tokens


def _samples(folder: Path) -> bool:
    search: Mapping[str, Any] = read_json(folder / "genai_config.json").get("search") or {}
    return bool(search.get("do_sample"))
