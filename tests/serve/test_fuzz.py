"""Every route by its own document, with what fits it and what does not: schemathesis."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.test_running import served

SECONDS = 45
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.mark.slow
def test_no_request_makes_the_server_fail_or_leave_its_document(tmp_path: Path) -> None:
    with served(deadline_s=2) as server:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--no-color"]
        command += ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--warnings", "off"]
        command += ["--max-time", str(SECONDS), "--seed", "1", "--request-timeout", "30"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False, timeout=600
        )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
