"""What the checks of tests/verify print: each figure beside its bound, and the count at the end."""

import os
import subprocess
import time

from server_process import ROOT

QUICK = os.environ.get("QUICK", "") not in ("", "0")
results = {"passed": 0, "failed": 0}


def check(name, figure, bound, ok):
    results["passed" if ok else "failed"] += 1
    print(f"{'PASS' if ok else 'FAIL'}  {name:<58} {figure}   [{bound}]", flush=True)


def show(name, figure):
    print(f"      {name:<58} {figure}   [no bound]", flush=True)


def run(command, **options):
    """Runs a command, its output kept; returns (exit code, output, seconds)."""
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False, **options)
    return done.returncode, done.stdout, time.monotonic() - started


def run_lines(lines):
    """Runs the checks of lines 1, 2, …, or those that LINES names ("1,4"); returns the exit code of the whole."""
    wanted = os.environ.get("LINES", "")
    for number, line in enumerate(lines, start=1):
        if wanted and str(number) not in wanted.split(","):
            continue
        print(f"-- line {number}", flush=True)
        try:
            line()
        except Exception as error:  # pylint: disable=broad-except  the other lines still say their part
            check(f"line {number} ran to its end", repr(error), "no error", False)
    print(f"{results['passed']} passed, {results['failed']} failed")
    return 1 if results["failed"] else 0
