"""Programs that measure, and checks of what they measured, which are void when other programs had the cores."""

import os
import sys

from report import check
from server_process import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "bench", "peers"))
import rows  # noqa: E402  of the peers' harness
from common import MAX_FOREIGN_CORES  # noqa: E402


def run_json(command):
    """The JSON object that a command's last line is, with foreign_cores."""
    return rows.run_json([str(word) for word in command])


def judge(name, figure, bound, ok, foreign_cores):
    """A check that does not hold when other programs had the cores: it says nothing then."""
    if foreign_cores > MAX_FOREIGN_CORES:
        figure, ok = f"{figure}, void: other programs had {foreign_cores:.2f} cores", False
    check(name, figure, bound, ok)
