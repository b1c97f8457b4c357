"""What the page tells of a comparison of candidates, the report of `ship`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from edgeship.measure.choice.choose import figures_of_kld
from edgeship.measure.measurement import Measurement
from edgeship.measure.report.charts.bars import Bar, bars
from edgeship.measure.report.charts.shapes import Chart
from edgeship.measure.report.comparison import (
    Candidate,
    Report,
    busy,
    failing,
    fp32_passes,
    headline,
    latency_table,
    methods,
    slice_table,
    table_rows,
    ways_on,
)
from edgeship.measure.report.gated import gate_table
from edgeship.measure.report.page import tradeoffs, units
from edgeship.measure.report.page.blocks import (
    Case,
    Cases,
    Facts,
    Page,
    Part,
    Pictures,
    Rows,
    Sentences,
    Verdict,
    pictures,
    section,
    sections,
)
from edgeship.measure.report.page.change import Figure
from edgeship.measure.report.page.evaluation import by_prompt_length
from edgeship.measure.report.page.fidelity import histograms, worst
from edgeship.measure.report.page.tradeoffs import Option
from edgeship.measure.report.tables import Table, facts, percent
from edgeship.measure.statistics.intervals import Z_95
from edgeship.recipe import Precision
from edgeship.system.fields import Fields
from edgeship.system.storage import megabytes

_Value = tuple[float, str, float | None, float | None]


def page(report: Report) -> Page:
    """The page of one report."""
    footer = "Every answer, run and figure behind this page is in report.json beside it."
    return Page(f"{report.name}: {headline(report)}", (part(report),), footer)


def part(report: Report) -> Part:
    """All that is told of it."""
    options = _options(report)
    return Part(
        report.name,
        f"Measured {report.created}",
        sections(
            section("Side by side", _warning(report), _candidates(report), _bars(report)),
            section("Size against fidelity and speed", _front(report, options), tradeoffs.scatters(options)),
            section("How KLD is distributed", _histograms(report)),
            section("Where they stray furthest", *_worst(report)),
            section("Pass rate by slice", _rows("Pass rate by slice", slice_table(report))),
            section(
                "Latency of the evaluation's answers",
                _rows("Latency by recipe", latency_table(report)),
                _by_prompt_length(report),
            ),
            section("What fails", _cases(report)),
            section("Release gate", *_gate(report)),
            section("What ships", _shipping(report)),
            section("What was measured, and where", _facts(report)),
            section("What to try", None if report.installs else Sentences(tuple(map(_sentence, ways_on(report))))),
            section("Go on", Facts(report.commands, commands=True) if report.commands else None),
            section("How it was measured", Facts(methods(report))),
        ),
        Verdict(headline(report), report.outcome, report.reasons),
    )


def figures(report: Report) -> list[Figure]:
    """What is held beside other reports."""
    found = []
    for one in report.by_size:
        label, measured, speed = one.label.upper(), one.measurement, one.measurement.speed
        found.append(Figure(f"size, {label}", measured.size_bytes, units.memory, False))
        found.append(Figure(f"peak memory, {label}", measured.peak_memory_bytes, units.memory, False))
        found.append(Figure(f"load time, {label}", measured.load_s, "{:.2f} s".format, False))
        for name, speeds in (("prefill", speed.prefill_tokens_per_s), ("decode", speed.decode_tokens_per_s)):
            found.append(Figure(f"{name}, {label}", speeds.median, units.tokens_per_s, True))
        if measured.fidelity:
            mean, error = measured.fidelity.mean_kld_nats, measured.fidelity.mean_kld_error_nats
            bounds = (None, None) if error is None else (mean - Z_95 * error, mean + Z_95 * error)
            found.append(Figure(f"mean KLD, {label}", mean, units.nats, False, *bounds))
        if measured.evaluation:
            interval = measured.evaluation.pass_rate_95
            rate = measured.evaluation.pass_rate
            passes = Figure(f"pass rate, {label}", rate, units.percent, True, interval.low, interval.high, share=True)
            found.append(passes)
    return found


def _rows(caption: str, table: Table | None) -> Rows | None:
    return Rows(caption, table) if table else None


def _candidates(report: Report) -> Rows:
    return Rows("The candidates side by side", table_rows(report), report.choice.chosen)


def _warning(report: Report) -> Sentences | None:
    said = busy(report)
    return Sentences((_sentence(said),), warns=True) if said else None


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _bars(report: Report) -> Pictures | None:
    against = report.reference or "the reference"
    return pictures(
        _chart("Size", "shorter is better", _size, report),
        _chart("Decode speed", "longer is better", _decode, report),
        _chart("Evaluation, cases passed", "longer is better", _pass_rate, report),
        _chart(f"Mean KLD from {against}", "shorter is better", _kld, report),
    )


def _chart(title: str, note: str, read: Callable[[Measurement], _Value | None], report: Report) -> Chart | None:
    found = [(candidate, read(candidate.measurement)) for candidate in report.by_size]
    return bars(
        title,
        note,
        [
            Bar(one.label.upper(), value[0], value[1], value[2], value[3], one.label == report.choice.chosen)
            for one, value in found
            if value is not None
        ],
    )


def _size(measured: Measurement) -> _Value:
    return measured.size_bytes, megabytes(measured.size_bytes), None, None


def _decode(measured: Measurement) -> _Value:
    speed = measured.speed.decode_tokens_per_s
    return speed.median, f"{speed.median:,.0f} tok/s", speed.min, speed.max


def _pass_rate(measured: Measurement) -> _Value | None:
    result = measured.evaluation
    if result is None:
        return None
    return result.pass_rate, f"{percent(result.pass_rate)} %", result.pass_rate_95.low, result.pass_rate_95.high


def _kld(measured: Measurement) -> _Value | None:
    if measured.fidelity is None:
        return None
    nats = measured.fidelity.mean_kld_nats
    return nats, f"{figures_of_kld(nats)} nats", None, None


def _histograms(report: Report) -> Pictures | None:
    found = [(one.label.upper(), one.measurement.fidelity) for one in report.by_size]
    return histograms([(label, agreed.kld_counts) for label, agreed in found if agreed and agreed.kld_counts])


def _worst(report: Report) -> Iterator[Cases | None]:
    """Of each candidate, smallest first, read as report.json has it."""
    for one in reversed(report.by_size):
        kept = json.loads(json.dumps([asdict(token) for token in one.measurement.worst_tokens]))
        yield worst(one.label.upper(), [Fields(token, ValueError) for token in kept])


def _by_prompt_length(report: Report) -> Pictures | None:
    found = [(one.label.upper(), one.measurement.evaluation) for one in report.by_size]
    return by_prompt_length(
        [(label, [(one.prompt_tokens, one.ttft_s) for one in asked.records]) for label, asked in found if asked]
    )


def _front(report: Report, options: Sequence[Option]) -> Sentences | None:
    best = set(report.front)
    return tradeoffs.front(options, [one.label.upper() for one in report.by_size if one.label in best])


def _options(report: Report) -> list[Option]:
    """The candidates by what is weighed against each other."""
    found = []
    for one in report.by_size:
        measured, judged = one.measurement, one.measurement.evaluation
        option = Option(
            one.label.upper(),
            measured.size_bytes,
            measured.speed.decode_tokens_per_s.median,
            measured.fidelity.mean_kld_nats if measured.fidelity else None,
            judged.pass_rate if judged else None,
            (judged.pass_rate_95.low, judged.pass_rate_95.high) if judged else None,
            one.label == report.choice.chosen,
        )
        found.append(option)
    return found


def _cases(report: Report) -> Cases | None:
    """The cases that what ships fails; those that FP32 passes stand first, since conversion lost them."""
    shown, passing = failing(report), fp32_passes(report)
    if shown is None or shown.measurement.evaluation is None:
        return None
    evaluation, originals = shown.measurement.evaluation, _answers(report) if passing is not None else {}
    failures = sorted(evaluation.failures, key=lambda failure: failure.id not in (passing or ()))
    made = []
    for failure in failures:
        lost = passing is not None and failure.id in passing
        note = "" if passing is None else "FP32 passes it" if lost else "FP32 fails it too"
        texts = [("question", failure.question), ("expected", failure.expected), ("answer", failure.answer)]
        if failure.id in originals:
            texts.append(("FP32's answer", originals[failure.id]))
        if failure.reason:
            texts.append(("why", failure.reason))
        made.append(Case(failure.id, note, tuple(texts), serious=lost))
    summary = (
        f"Cases that {shown.label.upper()} fails: {evaluation.cases - evaluation.passed} of {evaluation.cases}, "
        f"{len(made)} of them in full"
    )
    return Cases(summary, tuple(made))


def _answers(report: Report) -> dict[str, str]:
    """FP32's answers by the cases' ids."""
    fp32 = next(found for found in report.candidates if found.precision is Precision.FP32).measurement.evaluation
    return {record.id: record.answer for record in fp32.records} if fp32 else {}


def _gate(report: Report) -> Iterator[Rows | Sentences]:
    for gate in report.gates:
        state = "passes" if gate.outcome == "pass" else "fails" if gate.outcome == "fail" else "is undecided"
        yield Rows(f"{gate.label.upper()} {state}: {gate.effort} effort, {gate.took_s:.0f} s", gate_table(gate))
        if gate.failed_before:
            yield Sentences((f"It failed before: {', '.join(gate.failed_before)}.",), warns=True)
        if gate.forced:
            said = "It was installed by force all the same, and is marked so wherever it is listed."
            yield Sentences((said,), warns=True)


def _shipping(report: Report) -> Facts | None:
    if report.sampling is None:
        return None
    return Facts((("Sampling", facts(report.sampling)),))


def _facts(report: Report) -> Facts:
    pairs = [("Checkpoint", facts(report.checkpoint))]
    pairs += [(one.label.upper(), _of_candidate(one)) for one in report.by_size]
    if report.reference:
        pairs.append(("Reference", report.reference))
    if report.template_fidelity:
        pairs.append(("Chat template", facts(report.template_fidelity)))
    pairs += [("Machine", facts(report.machine)), ("Tools", facts(report.tools))]
    return Facts(tuple(pairs))


def _of_candidate(one: Candidate) -> str:
    measured, speed = one.measurement, one.measurement.speed
    return (
        f"{facts(one.recipe)}; speed on prompts of {speed.prompt_tokens} tokens and answers of {speed.new_tokens}, "
        f"{len(speed.runs)} runs, {measured.threads} threads, other programs on {measured.busy:.0%} of the cores; "
        f"loaded in {measured.load_s:.2f} s"
    )
