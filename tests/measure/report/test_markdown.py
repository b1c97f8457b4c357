from __future__ import annotations

import re
from dataclasses import replace

from edgeship.measure.report.markdown import render_markdown
from tests.measure.report.page.parsed import HOSTILE
from tests.measure.samples import report


def test_hostile_texts_do_not_break_the_markdown() -> None:
    made = replace(report(), name=HOSTILE, tools={"tool": "a\n# b"})
    text = render_markdown(made)
    assert "<script" not in text
    assert "\n# b" not in text
    assert text.startswith("# &lt;script>")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows[:6]}) == 1
