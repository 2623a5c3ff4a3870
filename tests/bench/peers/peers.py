#!/usr/bin/env python3
"""Measures our CPU engine beside its peers, in turn and in one run, and prints where it stands.

usage: peers.py [--rows MODEL/DTYPE/THREADS …] [--first-token-rows …] [--rounds N] [--out FILE]
QUICK=1: two rows, one round, one setting of each peer. FILE gets all samples, checks and floors as JSON, also when the run
is cut short. Exits non-zero when something could not be measured; a bound that is not kept is for make verify-engine to
judge. Needs setup.sh, models.py and the release build.
"""

import argparse
import json
import os
import sys

import common
import report
import rows
import settings


def main():
    quick = rows.QUICK
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=settings.QUICK_ROWS if quick else settings.ROWS)
    parser.add_argument("--first-token-rows", nargs="*", default=[] if quick else settings.FIRST_TOKEN_ROWS)
    parser.add_argument("--rounds", type=int, default=1 if quick else 3)
    parser.add_argument("--out", default=os.path.join(common.PEERS, "results.json"))
    options = parser.parse_args()
    results = {"rounds": options.rounds, "rows": [], "first_token": []}
    work = [("rows", rows.SpeedRow(name)) for name in options.rows]
    work += [("first_token", rows.FirstTokenRow(name)) for name in options.first_token_rows]
    for kind, row in work:
        row.measure(options.rounds)
        results[kind].append(report.result(row))
        report.show(results[kind][-1])
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    report.summary(results)
    return 1 if any(row.errors for _, row in work) else 0


if __name__ == "__main__":
    sys.exit(main())
