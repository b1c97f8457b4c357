"""How the page writes figures with their units."""

from __future__ import annotations

from edgeship.measure.choice.choose import figures_of_kld
from edgeship.system.storage import megabytes


def milliseconds(seconds: float) -> str:
    """A latency, with three figures."""
    value = seconds * 1000
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} ms"


def tokens_per_s(value: float) -> str:
    """A speed."""
    return f"{value:,.0f} tok/s" if value >= 100 else f"{value:.1f} tok/s"


def per_s(value: float) -> str:
    """Requests."""
    return f"{value:.3g} /s"


def percent(value: float) -> str:
    """A share."""
    return f"{value * 100:.1f} %"


def nats(value: float) -> str:
    """A divergence."""
    return f"{figures_of_kld(value)} nats"


def memory(value: float) -> str:
    """Bytes."""
    return megabytes(round(value))


def ratio(value: float) -> str:
    """A ratio of two perplexities and the like."""
    return f"{value:.4f}"


def small(value: float) -> str:
    """A figure that may be tiny, and is then as telling."""
    return f"{value:.1e}" if 0 < abs(value) < 0.0001 else f"{value:.4f}"


def written(value: float | None, unit: str) -> str:
    """A figure by the name of its unit in a document; empty where there is none."""
    if value is None:
        return ""
    if unit in _KNOWN:
        return _KNOWN[unit](value)
    plain = f"{value:,.0f}" if float(value).is_integer() or abs(value) >= _WHOLE_FROM else f"{value:.4g}"
    return f"{plain} {unit}".rstrip()


def against(figure: float | None, bound: float | None, unit: str) -> tuple[str, str]:
    """A figure and what it is held to, in one unit."""
    known = [abs(value) for value in (figure, bound) if value is not None]
    if unit == "s" and known and max(known) >= _LONG_S:
        first, second = ("" if value is None else _long(value) for value in (figure, bound))
        return first, second
    return written(figure, unit), written(bound, unit)


def _seconds(value: float) -> str:
    return milliseconds(value) if abs(value) < _LONG_S else _long(value)


def _long(value: float) -> str:
    return f"{value:,.{1 if abs(value) >= _ROUNDED_FROM_S else 2}f} s"


def _times(value: float) -> str:
    return f"{value:.3f} times"


_WHOLE_FROM, _LONG_S, _ROUNDED_FROM_S = 1000, 1, 10
_KNOWN = {"s": _seconds, "bytes": memory, "share": percent, "times": _times}
