"""Keeps its output format: every answer against the structure, end, length and letters that it must have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgeship.errors import ResourceError
from edgeship.measure.cases.assertions import Around, Assertion, Reply, check
from edgeship.measure.statistics.noninferiority import poor_slices
from edgeship.package import DAMAGED, tokenizer
from edgeship.progress import Progress
from edgeship.validate import requests
from edgeship.validate.bounds import Bounds, bound
from edgeship.validate.check import Check
from edgeship.validate.output_format import text as texts
from edgeship.validate.output_format.asked import Gathered, Said, gather
from edgeship.validate.output_format.shape import unlike
from edgeship.validate.subject import Subject
from edgeship.validate.verdict import Evidence, Finding, Outcome

_ROOM_CHARACTERS = 20
_CALLS = Assertion(type="is-valid-openai-tools-call")


@dataclass(frozen=True)
class FormatBounds(Bounds):
    """Each is an upper bound of a part of the answers that are looked at, or of what one answer may have.

    None of the parts is about one answer too many: a check fails where the answers surely have more than that part.
    """

    max_malformed_share: float = bound(
        0.05,
        "Answers without the structure of the right ones, of those that were made without a constraint. Of the example "
        "none is so, and of its package in 2 bits nearly all are.",
        most=1,
    )
    max_malformed_constrained_share: float = bound(
        0.0,
        "The same of answers that were made under a constraint and came to their end. A constraint leaves no other "
        "tokens, so that one such answer is a fault of the engine or server.",
        most=1,
    )
    max_truncated_share: float = bound(
        0.02,
        "Answers to an evaluation that do not end by themselves and are truncated: each may have twice the tokens of "
        "the longest right one, or --max-tokens. Where the token that ends answers is lost, all are so.",
        most=1,
    )
    max_truncated_built_in_share: float = bound(
        0.5,
        "The same of short built-in questions, where there is no evaluation: small models are wordy, and of none that "
        "ends its answers at all is more than half truncated at 160 tokens.",
        most=1,
    )
    max_control_token_share: float = bound(
        0.0, "Answers with a control token of a chat template in their text. A user would see it.", most=1
    )
    max_repetition_share: float = bound(
        0.5,
        "The part of an answer, at its end, that may say the same over and over; beyond it the answer ends in a "
        "repetition loop. In 372 answers of two models it was 0.57 to 1 of the loops, and at most 0.16 of all others.",
        most=1,
    )
    max_looping_share: float = bound(0.02, "Answers to an evaluation that end in a repetition loop.", most=1)
    max_looping_built_in_share: float = bound(
        0.25, "The same of built-in questions, which are not what the model was made for.", most=1
    )
    max_foreign_letters_share: float = bound(
        0.2,
        "The part of an answer's letters that may be of a script that neither right answers nor its question have; "
        "beyond it the answer is in another script. A foreign name is less. Languages of one script are not told "
        "apart.",
        most=1,
    )
    max_other_script_share: float = bound(0.02, "Answers in another script.", most=1)
    max_length_ratio: float = bound(
        1.5,
        "How many times the characters of the longest right answer, and 20 more, an answer may have; beyond it the "
        "answer is too long. At twice its tokens it is truncated.",
        least=1,
    )
    max_wrong_length_share: float = bound(0.02, "Answers that are empty or too long.", most=1)
    max_invalid_calls_share: float = bound(
        0.0,
        "Answers with a call of a tool that does not exist, or whose arguments its schema does not allow: what runs "
        "the tools would fail.",
        most=1,
    )
    max_unanswered_share: float = bound(
        0.02,
        "Answers that do not come, of those that are asked for besides the evaluation's: with a constraint, or without "
        "one. A network breaks a connection now and then.",
        most=1,
    )


def _run(subject: Subject, bounds: FormatBounds, progress: Progress) -> Iterator[Finding]:
    found = gather(subject, progress)
    unconstrained = [one for one in found.answers if not one.constrained]
    constrained = [one for one in found.answers if one.constrained]
    yield _structure(found, unconstrained, bounds.max_malformed_share)
    yield _constrained(found, constrained, bounds.max_malformed_constrained_share)
    yield _ends(found, bounds)
    yield _control_tokens(subject, found, bounds.max_control_token_share)
    yield _loops(found, unconstrained, bounds)
    if found.own:
        yield _scripts(found, bounds)
        yield _lengths(found, unconstrained, bounds)
        yield from _calls(found, bounds.max_invalid_calls_share)
    yield from _unanswered(found, bounds.max_unanswered_share)


# --- structure -------------------------------------------------------------------------------------------------------


def _structure(found: Gathered, unconstrained: Sequence[Said], most: float) -> Finding:
    looked = [one for one in unconstrained if one.wanted and not one.tool_calls]
    if not looked:
        told = "No structure is expected of answers: they are texts that differ, or too few to have a shape in common."
        return Finding("structure", "skipped", told if found.own else "No structure is expected without an evaluation.")
    wrong = [(one, fault) for one in looked if one.wanted and (fault := unlike(one.wanted, one.text))]
    inferred = "; ".join(f"{name}: {each.told}" if name else each.told for name, each in found.shapes.items())
    wanted = f"Right answers are {inferred}" if inferred else "The answers' structure was given"
    return _counted(
        "structure", looked, wrong, most, f"{wanted}. {{wrong}} of {{of}} answers without a constraint are not so"
    )


def _constrained(found: Gathered, constrained: Sequence[Said], most: float) -> Finding:
    name = "structure-constrained"
    looked = [one for one in constrained if one.wanted and one.finish == "stop"]
    if found.refused or not looked:
        why = found.refused or "no structure is known, or none of them came to its end"
        return Finding(name, "skipped", f"Answers under a constraint were not looked at: {why}.")
    wrong = [(one, fault) for one in looked if one.wanted and (fault := unlike(one.wanted, one.text))]
    return _counted(
        name, looked, wrong, most, "Of {of} answers that were made under a constraint, {wrong} do not keep it"
    )


# --- end -------------------------------------------------------------------------------------------------------------


def _ends(found: Gathered, bounds: FormatBounds) -> Finding:
    looked = found.answers if found.own else [one for one in found.answers if not one.constrained]
    wrong = [(one, "it was truncated") for one in looked if one.finish == "length"]
    most = bounds.max_truncated_share if found.own else bounds.max_truncated_built_in_share
    told = "{wrong} of {of} answers did not end by themselves"
    if thought := sum(one.is_cut_in_thought for one in looked):
        told += f", {thought} of them within their thoughts, for which --max-tokens gives room"
    return _counted("ends", looked, wrong, most, told, "it ends by itself")


def _loops(found: Gathered, unconstrained: Sequence[Said], bounds: FormatBounds) -> Finding:
    shares = [(one, texts.loop_share(one.text)) for one in unconstrained]
    wrong = [
        (one, f"{100 * share:.0f} % of it, at its end, says the same over and over")
        for one, share in shares
        if share > bounds.max_repetition_share and not any(texts.loop_share(each) for each in one.expected)
    ]
    most = bounds.max_looping_share if found.own else bounds.max_looping_built_in_share
    told = "{wrong} of {of} answers end in a repetition loop"
    return _counted("loops", unconstrained, wrong, most, told, "it does not end in a repetition loop")


# --- what stands in it -----------------------------------------------------------------------------------------------


def _control_tokens(subject: Subject, found: Gathered, most: float) -> Finding:
    marks = texts.FAMILIES_MARKS | _own_marks(subject)
    wrong = [
        (one, f"it has {mark!r} in its text")
        for one in found.answers
        if (mark := texts.leaked(one.text, marks, allowed="\n".join((*one.expected, one.question))))
    ]
    told = "{wrong} of {of} answers show a control token of a chat template"
    return _counted("control-tokens", found.answers, wrong, most, told, "text without control tokens")


def _own_marks(subject: Subject) -> frozenset[str]:
    """The control tokens of a package's tokenizer; words and single signs are part of ordinary texts."""
    if subject.folder is None:
        return frozenset()
    added = tokenizer.read(subject.folder, DAMAGED).load().library.get_added_tokens_decoder().values()
    return frozenset(each.content for each in added if each.special and texts.is_telling(each.content))


def _scripts(found: Gathered, bounds: FormatBounds) -> Finding:
    name = "script"
    if not found.scripts:
        return Finding(name, "skipped", "The right answers have no letters by which their script could be told.")
    looked = [one for one in found.answers if not one.open and one.text]
    shares = [(one, texts.strange_share(one.text, found.scripts | set(texts.scripts(one.question)))) for one in looked]
    wrong = [
        (one, f"{100 * share:.0f} % of its letters are of another script")
        for one, share in shares
        if share > bounds.max_foreign_letters_share
    ]
    known = ", ".join(sorted(each.title() for each in found.scripts))
    told = f"Right answers are written in {known}. {{wrong}} of {{of}} answers are written in another script"
    return _counted(name, looked, wrong, bounds.max_other_script_share, told, known)


def _lengths(found: Gathered, unconstrained: Sequence[Said], bounds: FormatBounds) -> Finding:
    name = "length"
    looked = [one for one in unconstrained if not one.tool_calls]
    closed = bool(found.longest)
    longest = bounds.max_length_ratio * found.longest + _ROOM_CHARACTERS
    wrong = [(one, "it is empty") for one in looked if not one.text.strip()]
    wrong += [
        (one, f"it has {len(one.text):,} characters")
        for one in looked
        if closed and not one.open and len(one.text.strip()) > longest
    ]
    limit = f", or longer than {longest:,.0f} characters" if closed else ""
    told = f"{{wrong}} of {{of}} answers are empty{limit}"
    return _counted(name, looked, wrong, bounds.max_wrong_length_share, told, "a text of a length like the right ones'")


def _calls(found: Gathered, most: float) -> Iterator[Finding]:
    looked = [one for one in found.answers if one.tools and one.tool_calls]
    if not looked:
        return
    results = [(one, check(_CALLS, Reply(one.text, one.tool_calls), Around(one.tools))) for one in looked]
    wrong = [(one, result.reason) for one, result in results if not result.passed]
    told = "Of {of} answers that call tools, {wrong} do so in a way that cannot be carried out"
    yield _counted("calls", looked, wrong, most, told, "calls that the tools' schemas allow")


def _unanswered(found: Gathered, most: float) -> Iterator[Finding]:
    """Of what was asked besides the evaluation, whose errors are the domain's to judge."""
    name, missed = "answers-come", [(one, f"{error.code}: {error.what}") for one, error in found.missed]
    if not missed:
        return
    told = f"{len(missed):,} of {found.besides:,} answers that were asked for besides the evaluation did not come"
    finding = _judged(name, len(missed), found.besides, most, told)
    if finding.outcome == "fail" and all(isinstance(error, ResourceError) for _, error in found.missed):
        finding = replace(finding, outcome="undecided", decided_by="A target that is less busy.")
    yield finding.with_evidence(_evidence(name, missed, "an answer"))


# --- told ------------------------------------------------------------------------------------------------------------


def _counted(
    name: str,
    looked: Sequence[Said],
    wrong: Sequence[tuple[Said, str]],
    most: float,
    told: str,
    expected: str = "an answer of that structure",
) -> Finding:
    """The finding of some answers; see `_judged`. told: a sentence without its end, with {wrong} and {of}."""
    sentence = told.replace("{wrong}", f"{len(wrong):,}").replace("{of}", f"{len(looked):,}")
    quoted = [(one, f"{why}: {one.text}") for one, why in wrong]
    return _judged(name, len(wrong), len(looked), most, sentence).with_evidence(_evidence(name, quoted, expected))


def _evidence(name: str, wrong: Sequence[tuple[Said, str]], expected: str) -> list[Evidence]:
    """wrong: with what came."""
    return [
        Evidence(
            f"format/{name}/{'constrained/' if one.constrained else ''}{one.name}",
            one.request,
            requests.shortened(got),
            expected,
        )
        for one, got in wrong[: requests.MOST_KEPT]
    ]


def _judged(name: str, wrong: int, of: int, most: float, sentence: str) -> Finding:
    """What a count comes to: it fails where the true part surely lies beyond the bound, as a slice of the domain does.

    A few too many are what chance does to a target within the bound. They are undecided only where there are so few
    answers that chance could do this to all of them.
    """
    share = wrong / of if of else 0.0
    told, outcome, decided_by = f"{sentence}; at most {100 * most:.1f} % may.", _outcome(wrong, of, most), None
    if outcome == "undecided":
        enough = next(count for count in itertools.count(of + 1) if _is_surely_beyond(count, count, most))
        decided_by = f"{enough:,} answers like these."
    elif outcome == "pass" and share > most:
        told += " A few more than that may be chance."
    return Finding(name, outcome, told, share, most, "share", decided_by=decided_by)


def _outcome(wrong: int, of: int, most: float) -> Outcome:
    if not of or wrong / of <= most:
        return "pass"
    if _is_surely_beyond(wrong, of, most):
        return "fail"
    return "pass" if _is_surely_beyond(of, of, most) else "undecided"


def _is_surely_beyond(wrong: int, of: int, most: float) -> bool:
    return bool(poor_slices({"": (of - wrong, of)}, 1 - most))


CHECK = Check("format", "Keeps its output format", FormatBounds, _run)
