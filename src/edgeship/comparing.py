"""How closely precisions follow a checkpoint, or targets the first of them: `edgeship compare` without its words.

It measures and does not judge: what holds is `shipping`'s question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgeship import builder as builds
from edgeship import candidates, shipping
from edgeship.checkpoint import Checkpoint
from edgeship.errors import NotSupported, UsageError
from edgeship.measure import document
from edgeship.measure.agreement import scored_texts, served
from edgeship.measure.agreement.fidelity import HISTOGRAM_EDGES_NATS, Likelihood
from edgeship.measure.agreement.questions import built_in_prompts
from edgeship.measure.agreement.reference import Reference, ScoredText, Text, of_build
from edgeship.measure.agreement.scored_texts import CheckpointReader, PackageReader, Reader
from edgeship.measure.measurement import Measurement
from edgeship.measure.probe import ProbeOptions, probe
from edgeship.package import DAMAGED, tokenizer
from edgeship.preflight import ReferenceName, Shipment, choose_reference, fp32_of, preflight
from edgeship.progress import Progress, silent, under
from edgeship.recipe import Recipe, named_recipe
from edgeship.settings import Settings
from edgeship.targets import Target

NO_KLD = "a server tells its 20 likeliest tokens at most, and KLD takes the whole distribution"


@dataclass(frozen=True)
class Compared:
    """What one candidate came to. A server has a likelihood, and all else a measurement with its fidelity.

    label: the precision, or the target as it was named. measurement: without fidelity of what is the reference itself.
    """

    label: str
    measurement: Measurement | None = None
    likelihood: Likelihood | None = None


@dataclass(frozen=True)
class Comparison:
    """All candidates beside their reference.

    reference, texts: what they were held against and over which texts, in words.
    texts_used, texts_skipped: skipped are those longer than the context, or past what a reference may take of the disk.
    """

    name: str
    reference: str
    texts: str
    texts_used: int
    texts_skipped: int
    candidates: tuple[Compared, ...]

    def to_dict(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        return {
            **document.head("fidelity"),
            "name": self.name,
            "reference": self.reference,
            "texts": {"source": self.texts, "used": self.texts_used, "skipped": self.texts_skipped},
            "kld_histogram_edges_nats": list(HISTOGRAM_EDGES_NATS),
            "candidates": {found.label: _told(found) for found in self.candidates},
        }


def compare_checkpoint(
    checkpoint: Checkpoint,
    *,
    settings: Settings,
    recipes: Sequence[Recipe] = (),
    reference: Literal["auto"] | ReferenceName = "auto",
    texts_file: Path | None = None,
    limit: int = scored_texts.LIMIT,
    force_resources: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Each recipe's package beside the checkpoint; nothing is installed.

    recipes, reference, force_resources: as `shipping.ship` has them. texts_file, limit: see `scored_texts.read_texts`;
    without a file the checkpoint's own answers to built-in questions. Raises what the stages raise.
    """
    shipment = Shipment(
        checkpoint=checkpoint,
        name=checkpoint.name,
        recipes=tuple(recipes) or tuple(named_recipe(label, {}, where="candidates") for label in shipping.CANDIDATES),
        thresholds=shipping.DEFAULT_THRESHOLDS,
        reference=choose_reference(checkpoint) if reference == "auto" else reference,
        force_resources=force_resources,
    )
    texts: Sequence[Text] = built_in_prompts(checkpoint)[:limit]
    if texts_file is not None:
        texts = _texts(texts_file, CheckpointReader(checkpoint), limit)
    with candidates.work_folder(settings) as work:
        shipment, _, plans, spelling = preflight(shipment, settings, work, progress)

        def make(recipe: Recipe) -> candidates.Made:
            plan = plans.get(recipe) or builds.plan(checkpoint, recipe, settings)
            return candidates.make(checkpoint, recipe, plan, spelling, settings, work, progress)

        fp32 = make(fp32_of(shipment)) if shipment.reference == "fp32" else None
        held = candidates.reference(checkpoint, fp32, texts, settings, work, progress)
        found = []
        for recipe in shipment.recipes:
            made = fp32 if fp32 is not None and recipe == fp32.recipe else make(recipe)
            measurement = _measure(made.package.folder, held.path, recipe.label, settings, progress)
            found.append(Compared(recipe.label, measurement))
    return _comparison(shipment.name, held, texts_file, "the checkpoint's", found)


def compare_targets(
    targets: Sequence[Target],
    *,
    settings: Settings,
    texts_file: Path | None = None,
    limit: int = scored_texts.LIMIT,
    model: str | None = None,
    api_key: str | None = None,
    progress: Progress = silent,
) -> Comparison:
    """The targets beside the first of them, which is a package or its folder.

    model, api_key: of a server among them. Raises NotSupported for what tells no log-probabilities, or has other tokens
    than the first; PackageNotFound, TextsInvalid, and what the stages raise.
    """
    _require_comparable(targets)
    first, *others = targets
    folders = {target.name: target.package_folder() for target in targets if target.kind != "url"}
    reader = PackageReader(folders[first.name])
    for other in others:
        if other.kind != "url":
            _require_same_tokens(first.name, folders[first.name], other.name, folders[other.name])
    texts = _texts(texts_file, reader, limit) if texts_file else scored_texts.own_answers(reader)[:limit]
    with candidates.work_folder(settings) as work:
        held = of_build.reference(
            folders[first.name],
            folders[first.name],
            [],
            texts,
            work / "reference.npz",
            chat_template=reader.codec.template or "",
            special_tokens=reader.codec.special_tokens,
            source=first.name,
            threads=settings.threads,
            progress=under("reference", progress),
        )
        found = [Compared(first.name, _measure(folders[first.name], None, first.name, settings, progress))]
        for other in others:
            if other.kind == "url":
                progress(f"ask {other.name}", None)
                likelihood = served.likelihood(other.name, held.texts(), reader.codec, model, api_key, progress)
                found.append(Compared(other.name, likelihood=likelihood))
            else:
                folder = folders[other.name]
                found.append(Compared(other.name, _measure(folder, held.path, other.name, settings, progress)))
    return _comparison(first.name, held, texts_file, f"{first.name}'s", found)


def _measure(folder: Path, reference: Path | None, label: str, settings: Settings, progress: Progress) -> Measurement:
    options = ProbeOptions(reference=reference)
    return probe(folder, options, threads=settings.threads, progress=under(f"measure {label}", progress))


def _texts(path: Path, reader: Reader, limit: int) -> list[Text]:
    texts = scored_texts.read_texts(path, reader, limit)
    for text in texts[:1]:
        if isinstance(text, ScoredText):
            reader.ask(text.messages)  # that there is no template, or that it refuses them, is told before the work
    return texts


def _comparison(
    name: str, held: Reference, texts_file: Path | None, whose: str, found: Sequence[Compared]
) -> Comparison:
    over = str(texts_file) if texts_file else f"{whose} own answers to built-in questions"
    return Comparison(name, held.source, over, held.texts_used, held.texts_skipped, tuple(found))


def _require_comparable(targets: Sequence[Target]) -> None:
    if len(targets) < 2:
        raise UsageError("there is nothing to compare it with", hint="Name two targets or more, or one checkpoint.")
    names = [target.name for target in targets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError("a target is named twice", where=twice, hint="Name each of them once.")
    for target in targets:
        if target.kind == "foundry":
            raise NotSupported(
                f"Foundry Local tells no log-probabilities, so foundry:{target.name} cannot be compared",
                where=target.name,
                hint="Compare the package that it was registered from.",
            )
    if targets[0].kind == "url":
        raise NotSupported(
            f"a server cannot be the reference: {NO_KLD}",
            where=targets[0].name,
            hint="Name a package first, and the server after it.",
        )


def _require_same_tokens(one: str, one_folder: Path, other: str, other_folder: Path) -> None:
    """That token ids mean the same in both. Raises NotSupported with the first that does not."""
    ids = [tokenizer.read(folder, DAMAGED).load().vocabulary for folder in (one_folder, other_folder)]
    if ids[0] == ids[1]:
        return
    number = next(number for number in sorted({*ids[0], *ids[1]}) if ids[0].get(number) != ids[1].get(number))
    here, there = (repr(known[number]) if number in known else "none" for known in ids)
    raise NotSupported(
        f"{other} has another tokenizer than {one}: token {number} is {there} there and {here} here, so the two "
        "predict different things, and there is no KLD between them",
        where=other,
        hint="Compare packages of one checkpoint.",
    )


def _told(found: Compared) -> dict[str, Any]:
    if found.measurement is not None:
        return found.measurement.to_dict()
    assert found.likelihood is not None
    return {"likelihood": asdict(found.likelihood), "kld_refused": NO_KLD}
