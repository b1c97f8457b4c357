"""`python -m tests.fuzz`: mutations of what strangers bring, as many as one likes; ends with 1 where one is a fault."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.harness import run
from tests.fuzz.readers import BY_NAME


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(BY_NAME), help="this reader; may be given again")
    parser.add_argument("--count", type=int, default=500, help="mutations of each reader's input (default: 500)")
    parser.add_argument("--seed", default="1", help="another seed gives other mutations")
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    parser.add_argument("--minutes", type=float, help="go on with further mutations for so long")
    parser.add_argument("--verbose", action="store_true", help="say what came of each")
    given = parser.parse_args()
    ends = time.monotonic() + 60 * (given.minutes or 0)
    first = given.first
    while True:
        found = run(given.only or list(BY_NAME), given.seed, given.count, first, verbose=given.verbose)
        print(found.table())
        print(found.findings(), flush=True)
        first += given.count
        if found.faults or time.monotonic() >= ends:
            return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
