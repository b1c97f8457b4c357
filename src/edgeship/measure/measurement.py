"""Everything measured about one package, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeship.measure.evaluate import EvalResult
from edgeship.measure.fidelity import Fidelity
from edgeship.measure.speed import Speed


@dataclass(frozen=True)
class Measurement:
    """One package on one machine.

    size_bytes: the model's files; package_bytes: the whole folder.
    load_s: to a model that can answer, in a fresh process, the import of the libraries included.
    peak_memory_bytes: of a process of its own that loaded the package, ran the speed test and answered the
    evaluation. The fidelity check comes after: its tables of logits are ours, not the model's.
    fidelity, evaluation: None where they were not asked for.
    """

    threads: int
    size_bytes: int
    package_bytes: int
    load_s: float
    rss_after_load_bytes: int
    peak_memory_bytes: int
    speed: Speed
    fidelity: Fidelity | None = None
    evaluation: EvalResult | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Measurement:
        """What `to_dict` made. Raises ValueError."""
        from pydantic import TypeAdapter

        return TypeAdapter(Measurement).validate_python(values)

    def summary(self) -> dict[str, Any]:
        """`to_dict` without single answers, speed runs and failures: what a manifest keeps."""
        values = self.to_dict()
        values["speed"].pop("runs")
        if values["evaluation"] is not None:
            for raw in ("records", "failures"):
                values["evaluation"].pop(raw)
        return values
