"""A server's process over a scripted model, as `edgeship serve` runs one: `python -m tests.serve.served OPTIONS`.

OPTIONS: JSON, fields of ServeOptions. The URL is the first line that it prints.
"""

from __future__ import annotations

import json
import sys

from edgeship.serve import ServeOptions, running
from edgeship.settings import resolve
from tests.serve.serving import scripted_app

ANSWERS = {"long": "x" * 100_000, "hello": "Good day. " * 100}


def main(options: str) -> int:
    """Serves until it is ended; the exit code."""
    app = scripted_app(ANSWERS, ServeOptions(**json.loads(options)), delay_s=0.01, context_tokens=200_000)
    address = running.Address("127.0.0.1", 0)
    return running.run(app, address, home=resolve().home, ready=lambda url: print(url, flush=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
