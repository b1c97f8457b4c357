"""The end of a ship: a package that was installed answers once from where it lies, or is taken out again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from edgeship.engine.answer import ask
from edgeship.engine.api import Chat, Constraint, Conversation, Limits, Message, Sampling
from edgeship.engine.opening import load_chat
from edgeship.errors import EngineFailed, PackageNotFound
from edgeship.measure.cases.evalset import EvalCase
from edgeship.measure.evaluation.evaluate import greedy
from edgeship.measure.measurement import Measurement
from edgeship.preflight import Shipment
from edgeship.progress import Progress
from edgeship.settings import Settings
from edgeship.store import packages
from edgeship.store.listing import Entry

RECHECKED_ANSWERS = 5


@contextlib.contextmanager
def withdrawn_on_failure(new: Entry | None, settings: Settings) -> Iterator[None]:
    """Takes a new package out of the cache again where what happens inside fails, or is interrupted.

    Nobody is to find it as the latest version; its build is kept, so that shipping again is short.
    """
    try:
        yield
    except BaseException:
        if new is not None:
            with contextlib.suppress(PackageNotFound):
                packages.remove(settings.cache_dir, new.ref)
        raise


def first_answer(
    shipment: Shipment,
    installed: Entry,
    cases: Sequence[EvalCase],
    measurement: Measurement,
    question: str,
    settings: Settings,
    progress: Progress,
) -> str:
    """Runs the package from where it was installed: it answers as measured, and one answer more to show."""
    progress(f"check {installed.ref}", None)
    with load_chat(installed.folder, threads=settings.threads, limits=Limits(slots=1)) as chat:
        if measurement.evaluation:
            _require_same_answers(chat, cases, measurement, installed, shipment.constraint)
        messages: list[Message] = [{"role": "user", "content": question}]
        return ask(chat, Conversation(messages), Sampling(temperature=0.0, max_tokens=256)).text


def _require_same_answers(
    chat: Chat,
    cases: Sequence[EvalCase],
    measurement: Measurement,
    installed: Entry,
    constraint: Constraint | None,
) -> None:
    assert measurement.evaluation is not None
    max_tokens = measurement.evaluation.max_tokens
    for case, record in zip(cases[:RECHECKED_ANSWERS], measurement.evaluation.records, strict=False):
        answer = ask(chat, case.asked, greedy(max_tokens, case.constraint or constraint)).text
        if answer != record.answer:
            raise EngineFailed(
                f"the installed package answers case {record.id!r} otherwise than when it was measured: "
                f"{answer!r} instead of {record.answer!r}",
                where=str(installed.folder),
                hint="Ship again; if it stays, run `edgeship doctor` and report it.",
            )
