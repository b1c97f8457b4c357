from __future__ import annotations

from edgeship.errors import AdapterInvalid


def test_what_strangers_wrote_is_quoted_without_power_and_end() -> None:
    error = AdapterInvalid(f"it holds \x1b[31m\u202e{'x' * 10**6}\ud800 end\nmore", hint="see \x07it")
    assert error.what.startswith("it holds \\x1b[31m\\u202exxx")
    assert error.what.endswith("\\ud800 end\nmore")
    assert len(error.what) < 2100
    assert (str(error), error.hint) == (error.what, "see \\x07it")
