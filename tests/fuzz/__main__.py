"""`python -m tests.fuzz`: mutations of what strangers bring, as many as one likes; ends with 1 where one is a fault."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.harness import Tally, run
from tests.fuzz.readers import BY_NAME, READERS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(BY_NAME), help="this reader; may be given again")
    parser.add_argument("--count", type=int, default=500, help="mutations of each reader's input (default: 500)")
    parser.add_argument("--seed", default="1", help="another seed gives other mutations")
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    parser.add_argument("--minutes", type=float, default=0, help="go on with further mutations for so long")
    parser.add_argument("--verbose", action="store_true", help="say what came of each")
    given = parser.parse_args()
    tally, first, ends = Tally(), given.first, time.monotonic() + 60 * given.minutes
    while True:
        for reader in [BY_NAME[name] for name in given.only] if given.only else READERS:
            for result in run(reader, given.seed, given.count, first):
                tally.add(result)
                if given.verbose:
                    print(f"{reader.name} {result.number}: {result.mutation} -> {result.outcome} {result.detail}")
        first += given.count
        if time.monotonic() >= ends:
            print(tally.table())
            print(tally.findings())
            return 1 if tally.faults else 0
        print(f"{sum(counts.total() for counts in tally.counts.values())} mutations, {len(tally.faults)} faults")


if __name__ == "__main__":
    sys.exit(main())
