"""What is served: from what the command was given to one card for each model, with the names that clients use."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edgeship import targets
from edgeship.engine.remote import RemoteChat
from edgeship.errors import EdgeshipError, UsageError
from edgeship.package import genai_config, names
from edgeship.package import manifest as manifests
from edgeship.settings import Settings
from edgeship.store import listing
from edgeship.store.listing import Entry
from edgeship.targets import FOUNDRY, Target

LOOK_S = 1.0
"""A cache is looked at again after so long."""
_MOST_ALIAS_CHARACTERS = 200
_log = logging.getLogger("edgeship.serve")


@dataclass(frozen=True)
class ModelCard:
    """What can be known of a model without opening it.

    id: the name that clients use: a package's name, or name:version where a later version has the name; a folder's
    name; foundry:NAME; what a server calls its model. aliases: other names for it.
    target: for a package always one version of it.
    created: when its files were made, in unix seconds; of a URL's model, when it was first heard of.
    size_bytes, folder: of its files; None for a URL.
    """

    id: str
    target: Target
    aliases: tuple[str, ...]
    created: int
    size_bytes: int | None
    folder: Path | None

    @property
    def gate(self) -> str | None:
        """What the release gate has said of its package until now, as lists show it; None where nothing is known."""
        return listing.gate_of(self.folder) if self.folder else None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that means it."""
        return self.id, *self.aliases

    @property
    def listed_names(self) -> tuple[str, ...]:
        """Those that lists show: without NAME:VERSION where NAME means that, or each model would be there twice."""
        return self.id, *(alias for alias in self.aliases if not alias.startswith(f"{self.id}:"))


class Catalog:
    """The cards of the models that were named; of every package in the cache where none were.

    given: names, NAME:VERSION, folders, foundry:NAME, URLs; URL#MODEL for one of several models of a server. What they
    mean is found once, so a package that is installed later takes no name over. Without any, the cache is looked at
    again while the server runs, and a name means its latest version.
    aliases: ALIAS=NAME each, for names that clients know already.

    Raises UsageError for two models with one name, and for aliases of nothing; also what `targets.resolve` and
    `Target.open` raise: models of Foundry Local and of servers are asked for.
    """

    def __init__(self, given: Sequence[str | Path], settings: Settings, *, aliases: Sequence[str] = ()) -> None:
        self._settings, self._aliases = settings, _read_aliases(aliases)
        self._follows_cache = not given
        self._seen: object = None
        if self._follows_cache:
            self._seen, cards = _state(settings.cache_dir), _of_cache(settings)
        else:
            cards = tuple(_of_text(text, settings) for text in given)
        _require_known(self._aliases, cards)
        self._cards = _checked(_with_aliases(cards, self._aliases))
        self._looked_at = time.monotonic()

    def cards(self) -> tuple[ModelCard, ...]:
        """The models that are served now."""
        if self._follows_cache and time.monotonic() - self._looked_at >= LOOK_S:
            self._look()
        return self._cards

    def _look(self) -> None:
        """Reads the cache again where something in it changed; what cannot be served now leaves all as it was."""
        try:
            before, self._seen = self._seen, _state(self._settings.cache_dir)
            if self._seen != before:
                self._cards = _checked(_with_aliases(_of_cache(self._settings), self._aliases))
        except EdgeshipError as error:
            _log.warning("the cache changed, and the models that were there are served on: %s", error.what)
        self._looked_at = time.monotonic()


# --- what texts mean -------------------------------------------------------------------------------------------------


def _of_text(text: str | Path, settings: Settings) -> ModelCard:
    url, _, model = str(text).partition("#")
    if "://" in url and isinstance(text, str):
        return _of_url(targets.resolve(url, settings), model)
    target = targets.resolve(text, settings)
    if target.kind == "package":
        return _of_package(target)
    if target.kind == "folder":
        folder = target.package_folder()
        return _of_folder(names.of_folder(folder)[0] or str(folder), target, folder)
    return _of_folder(FOUNDRY + target.name, target, target.registered_folder())


def _of_url(target: Target, model: str) -> ModelCard:
    if not model:
        with target.open() as chat:
            assert isinstance(chat, RemoteChat)
            model = chat.model
    return ModelCard(model, target, (), int(time.time()), None, None)


def _of_package(target: Target) -> ModelCard:
    """A package that was named: with no version it is the latest, and has that name too."""
    name, version = names.parse_ref(target.name)
    target.package_folder()  # says best what is wrong where there is none
    entry = listing.find(target.settings.cache_dir, target.name)
    card = _of_folder(entry.ref, replace(target, name=entry.ref), entry.folder)
    return card if version else replace(card, id=name, aliases=(entry.ref,))


def _of_cache(settings: Settings) -> tuple[ModelCard, ...]:
    """Every package that can be run; the latest version of a name has the name."""
    entries = [entry for entry in listing.entries(settings.cache_dir) if _can_run(entry)]
    latest = {entry.name: entry.version for entry in entries}
    cards = []
    for entry in entries:
        card = _of_folder(entry.ref, Target("package", entry.ref, settings), entry.folder)
        is_latest = latest[entry.name] == entry.version
        cards.append(replace(card, id=entry.name, aliases=(entry.ref,)) if is_latest else card)
    return tuple(cards)


def _can_run(entry: Entry) -> bool:
    return entry.package is not None or entry.problem == listing.FOREIGN


def _of_folder(called: str, target: Target, folder: Path) -> ModelCard:
    created = 0.0
    with suppress(OSError):  # it was removed a moment ago
        created = (folder / genai_config.FILE_NAME).stat().st_mtime
    return ModelCard(called, target, (), int(created), manifests.size_bytes(folder), folder)


def _state(cache_dir: Path) -> object:
    """What is another once a package came or went: the times of the folders in which they lie."""
    return dict(_times(cache_dir))


def _times(cache_dir: Path) -> Iterator[tuple[str, int]]:
    with suppress(OSError), os.scandir(cache_dir) as found:
        for item in found:
            with suppress(OSError):
                yield item.name, item.stat().st_mtime_ns


# --- names -----------------------------------------------------------------------------------------------------------


def _read_aliases(texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        alias, _, name = text.partition("=")
        if not (alias and name and alias.isprintable() and len(alias) <= _MOST_ALIAS_CHARACTERS):
            raise UsageError(f"{text!r} is no alias", hint="Write ALIAS=NAME, such as gpt-4o-mini=triage.")
        if alias in found:
            raise UsageError(f"the alias {alias!r} is given twice", hint="Leave one of them out.")
        found[alias] = name
    return found


def _require_known(aliases: Mapping[str, str], cards: Sequence[ModelCard]) -> None:
    known = {name for card in cards for name in card.names}
    for alias, name in aliases.items():
        if name not in known:
            served = ", ".join(card.id for card in cards) or "none"
            raise UsageError(f"the alias {alias!r} means {name!r}, which is not served", hint=f"Models: {served}.")


def _with_aliases(cards: Sequence[ModelCard], aliases: Mapping[str, str]) -> tuple[ModelCard, ...]:
    def more(card: ModelCard) -> tuple[str, ...]:
        return tuple(alias for alias, name in aliases.items() if name in card.names and alias not in card.names)

    return tuple(replace(card, aliases=card.aliases + more(card)) for card in cards)


def _checked(cards: tuple[ModelCard, ...]) -> tuple[ModelCard, ...]:
    """The cards. Raises UsageError where a name means two models."""
    known: dict[str, ModelCard] = {}
    for card in cards:
        for name in card.names:
            if known.setdefault(name, card) is not card:
                raise UsageError(
                    f"two models are called {name!r}: {known[name].target.name} and {card.target.name}",
                    hint="Serve one of them, or give the folder or the alias another name.",
                )
    return cards
