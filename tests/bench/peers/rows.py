"""Rows of the comparison: one model, dtype and number of threads, ours and the peers measured in turn.

In the first round every peer runs with every setting; in the later ones only with those that were its fastest for some
figure. Ours and machine_floor run in every round; the order turns around from round to round. Figures are medians over
the rounds. QUICK=1 tries one setting of each peer.

Each line of JSON gets foreign_cores, the cores that other programs (and the hypervisor) kept busy meanwhile, the worst of
its rounds: a thread that is not running holds up all that wait for it, so that two threads on a busy machine of two cores
can be ten times slower, and a comparison says nothing. report.py gives no verdict then.
"""

import json
import os
import resource
import subprocess
import time

import common
import models
import settings

QUICK = os.environ.get("QUICK", "") not in ("", "0")
HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = os.path.join(common.ROOT, ".venv-peers", "bin", "python")
OURS = ("reprise", "")


def busy_seconds():
    """CPU seconds of the machine so far: all but idle and waiting, time stolen by the hypervisor included."""
    with open("/proc/stat", encoding="utf-8") as file:
        user, nice, system, _, _, *interrupts_and_steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + sum(interrupts_and_steal)) / os.sysconf("SC_CLK_TCK")


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_json(command):
    """The JSON object that a command's last line is, with foreign_cores; ValueError with the end of what it printed
    instead."""
    started, busy, own = time.monotonic(), busy_seconds(), children_seconds()
    done = subprocess.run(command, cwd=common.ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        errors = done.stderr.strip().splitlines()
        raise ValueError(errors[-1] if errors else f"exit {done.returncode}, nothing printed")
    foreign = busy_seconds() - busy - (children_seconds() - own)
    return {**json.loads(lines[-1]), "foreign_cores": round(max(0.0, foreign / (time.monotonic() - started)), 2)}


def runner(script, row, setting=""):
    return [PYTHON, os.path.join(HERE, script), row.model, "--dtype", row.dtype, "--threads", str(row.threads),
            "--repeats", str(row.repeats), f"--setting={setting}"]


class Row:
    """What both kinds of rows share."""

    figures = ()
    peers = {}
    repeats = 1  # of each program in a round

    def __init__(self, name):
        self.name = name
        self.model, self.dtype, threads = name.split("/")
        self.threads = int(threads)
        self.lines = {}   # (peer, setting) -> its line of JSON with the samples of all rounds
        self.errors = {}  # (peer, setting) -> text
        self.floors = []

    def our_command(self):
        raise NotImplementedError

    def candidates(self):
        """(peer, setting) of all that the first round runs."""
        return [OURS] + [(peer, setting) for peer, (_, by_dtype) in self.peers.items()
                         for setting in by_dtype.get(self.dtype, [])[:1 if QUICK else None]]

    def winners(self):
        """Ours and, for each peer and figure, the fastest setting."""
        best = [self.fastest(peer, figure) for peer in self.peers for figure in self.figures]
        return list(dict.fromkeys([OURS] + [(line["peer"], line["setting"]) for line in best if line]))

    def run(self, peer, setting):
        command = self.our_command() if peer == OURS[0] else runner(self.peers[peer][0], self, setting)
        try:
            line = run_json(command)
        except (ValueError, OSError) as error:
            self.errors[peer, setting] = str(error)
            return
        known = self.lines.get((peer, setting), {"samples": {}, "foreign_cores": 0.0})
        samples, foreign = known["samples"], max(known["foreign_cores"], line["foreign_cores"])
        for name, values in line["samples"].items():
            samples.setdefault(name, []).extend(values)
        self.lines[peer, setting] = {**line, "peer": peer, "samples": samples, "foreign_cores": foreign,
                                     **common.summary(samples)}

    def measure(self, rounds):
        for number in range(rounds):
            self.floors.append(run_json([os.path.join(common.BIN, "machine_floor"), str(self.threads)]))
            chosen = self.winners() if number else self.candidates()
            for peer, setting in reversed(chosen) if number % 2 else chosen:
                self.run(peer, setting)

    def fastest(self, peer, figure):
        """The line of a peer's best setting for a figure, or None."""
        lines = [line for (name, _), line in self.lines.items() if name == peer and figure in line]
        return min(lines, key=lambda line: line[figure], default=None)

    def best(self, figure):
        """The line of the best peer for a figure, or None."""
        lines = [line for peer in self.peers if (line := self.fastest(peer, figure))]
        return min(lines, key=lambda line: line[figure], default=None)

    def ours(self):
        return self.lines.get(OURS)

    def floor(self):
        return {key: max(floor[key] for floor in self.floors) for key in self.floors[0]}


class SpeedRow(Row):
    """Prefill and decoding, in process."""

    figures = common.FIGURES
    peers = settings.PEERS

    def our_command(self):
        return [os.path.join(common.BIN, "engine_bench"), models.path(self.model, settings.OURS[self.dtype]),
                "--dtype", self.dtype, "--threads", str(self.threads), "--repeats", str(self.repeats)]


class FirstTokenRow(Row):
    """Time to first token of servers, cold and with the prompt's first 512 tokens cached."""

    figures = ("cold_ttft_ms", "warm_ttft_ms")
    peers = settings.SERVERS
    repeats = 3

    def our_command(self):
        return runner("run_reprise_server.py", self)
