"""Every storage fault while entries are read, while they are written and while the store is opened: no request may
fail, differ from cold or wait for much longer than the load budget, and the tier comes back by itself."""

import os
import random
import shutil
import subprocess
import tempfile
import time

from cache_prompts import Cold, ask, settings_of
from report import QUICK, check, show
from server_process import BIN, ROOT, Server
from tiny_llama import write_tiny_llama

SHIM = os.path.join(BIN, "libstorage_shim.so")
BUDGET, RETRY = 0.3, 1.0
SLACK = 1.5    # seconds for what is computed, and for a machine that others use too
RETURN = 30    # seconds within which the tier is back
STORED = 8     # prompts that the store has
TURNS = 4      # at most, of asking until the fault shows

# By fault: what the shim does, "" for what is done to the folder instead.
SHIMMED = {
    "EIO": {"read": "read EIO", "write": "write EIO", "open": "open EIO"},
    "EIO now and then": {"read": "read FLAKY", "write": "write FLAKY", "open": "open FLAKY\nread FLAKY\nwrite FLAKY"},
    "ENOSPC": {"read": "write ENOSPC", "write": "write ENOSPC", "open": "write ENOSPC"},
    "stall": {"read": "read STALL", "write": "write STALL", "open": "open STALL"},
    "read-only mount": {"read": "write EROFS", "write": "write EROFS", "open": "write EROFS"},
    "short read": {"read": "read SHORT", "write": "read SHORT", "open": "read SHORT"},
    "will not open": {"read": "read EIO\nopen EIO", "write": "write EIO\nopen EIO", "open": "open EIO"},
}
PHASES = ("read", "write", "open")


def prompts(seed, count):
    chosen = random.Random(seed)
    return [",".join(str(chosen.randrange(1200)) for _ in range(chosen.randrange(40, 300))) for _ in range(count)]


class Fault:
    """A fault of the shim, or of the folder, that can be set and ended."""

    def __init__(self, name, phase, data, control):
        self.name, self.phase, self.data, self.control = name, phase, data, control

    def set(self):
        if self.name == "deleted folder":
            os.rename(self.data, self.data + "-gone")  # at once, although a server writes in it
            shutil.rmtree(self.data + "-gone", ignore_errors=True)
        elif self.name == "damaged CURRENT":
            with open(os.path.join(self.data, "CURRENT"), "w", encoding="utf-8") as file:
                file.write("garbage")
        else:
            with open(self.control, "w", encoding="utf-8") as file:
                file.write(SHIMMED[self.name][self.phase] + "\n")

    def end(self):
        if self.name == "damaged CURRENT":
            shutil.rmtree(self.data)
        with open(self.control, "w", encoding="utf-8"):
            pass


class Cell:
    """One fault in one phase, on a server of its own over a copy of a filled store."""

    def __init__(self, fixture, name, phase):
        folder = tempfile.mkdtemp(dir=fixture.work)
        self.data, self.fixture, self.phase = os.path.join(folder, "data"), fixture, phase
        shutil.copytree(fixture.master, self.data)
        self.fault = Fault(name, phase, self.data, os.path.join(folder, "control"))
        self.events, self.seen, self.back, self.start_seconds = [], 0, False, 0

    def start(self):
        environment = {"LD_PRELOAD": SHIM, "REPRISE_SHIM_FOLDER": self.data, "REPRISE_SHIM_CONTROL": self.fault.control}
        return Server(self.data, *settings_of(self.fixture.model), f"cache.store.load_budget={BUDGET}s",
                      f"cache.store.retry_pause={RETRY}s", environment=environment)

    def run(self):
        if self.phase == "open":
            self.fault.set()
        with self.start() as server:
            self.start_seconds = server.ready_seconds
            if self.phase != "open":
                self.fault.set()
            self.ask_until_seen(server)
            self.fault.end()
            self.back = self.comes_back(server)
            self.events += ask(server, "FORCE", self.fixture.stored + prompts(99, 3))

    def ask_until_seen(self, server):
        """Reading asks for what is stored, writing for what is new; both until a metric tells of the fault."""
        for turn in range(TURNS):
            new = prompts(turn, STORED)
            stored = self.fixture.stored if self.phase != "write" else []
            self.events += ask(server, "FORCE", stored + (new if self.phase != "read" else new[:2]))
            time.sleep(0.2)  # what is written behind
            failures = server.metric("reprise_store_failures_total") + server.metric("reprise_store_corrupt_segments_total")
            self.seen = failures + (1 - server.metric("reprise_store_enabled")) + self.waiting(server)
            if self.seen:
                return

    def waiting(self, server):
        """Segments that wait for a disk that stands still."""
        return server.metric("reprise_store_pending_segments") if self.fault.name == "stall" else 0

    def comes_back(self, server):
        """Whether what is new becomes durable again."""
        limit = time.monotonic() + RETURN
        before = server.metric("reprise_store_durable_segments_total")
        turn = 1000
        while time.monotonic() < limit:
            turn += 1
            self.events += ask(server, "FORCE", prompts(turn, 1))
            time.sleep(0.1)
            if server.metric("reprise_store_enabled") and server.metric("reprise_store_durable_segments_total") > before:
                return True
        return False

    def judge(self):
        replies = [event for event in self.events if event.kind == "reply"]
        failed = len(self.events) - len(replies)
        slowest = max((reply.seconds for reply in replies), default=0)
        wrong = self.fixture.cold.wrong(replies)
        bound = BUDGET + SLACK
        tells = (self.fault.name, self.phase) != ("deleted folder", "open")  # it is made, and nothing has failed
        check(f"{self.fault.name}, {self.phase}",
              f"{len(replies)} replies, {failed} failed, {wrong} wrong, slowest {slowest:.2f} s, told by metrics: {bool(self.seen)}, "
              f"tier back: {self.back}, started in {self.start_seconds:.1f} s", f"0, 0, <= {bound:.1f} s, {tells}, True",
              len(replies) > 0 and failed == wrong == 0 and slowest <= bound and bool(self.seen) == tells and self.back)


class Fixture:
    """A filled store that every cell starts from."""

    def __init__(self, work, model, cold):
        self.work, self.model, self.cold = work, model, cold
        self.master = os.path.join(work, "master", "data")
        os.makedirs(os.path.dirname(self.master))
        self.stored = prompts("stored", STORED)
        with Server(self.master, *settings_of(model)) as server:
            ask(server, "FORCE", self.stored, 1)


def check_lock(fixture):
    """A folder that a server holds: a second one ends and names folder and holder, the first goes on."""
    folder = tempfile.mkdtemp(dir=fixture.work)
    data = os.path.join(folder, "data")
    shutil.copytree(fixture.master, data)
    events, texts = [], []
    with Server(data, *settings_of(fixture.model)) as server:
        for phase in PHASES:
            command = [os.path.join(BIN, "reprise-server"), "--set", f"cache.store.path={data}"]
            settings = [f"listen.{name}=127.0.0.1:0" for name in ("inference", "admin", "http")]
            for setting in (*settings, *settings_of(fixture.model)):
                command += ["--set", setting]
            second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
            texts.append((second.returncode, data in second.stderr and f"pid {server.process.pid}" in second.stderr))
            events += ask(server, "FORCE", fixture.stored if phase == "read" else prompts(phase, 3))
    replies = [event for event in events if event.kind == "reply"]
    wrong = fixture.cold.wrong(replies)
    check("lock held, 3 times: the second server", f"exit codes {[code for code, _ in texts]}, folder and pid named: {[ok for _, ok in texts]}",
          "1, True", all(code == 1 and named for code, named in texts))
    check("lock held: the first server", f"{len(replies)} replies, {len(events) - len(replies)} failed, {wrong} wrong", "0, 0",
          len(replies) == len(events) > 0 and wrong == 0)


def check_required(fixture):
    """store.required: true, and a store that will not open: the server ends and says why."""
    data = os.path.join(tempfile.mkdtemp(dir=fixture.work), "data")
    shutil.copytree(fixture.master, data)
    Fault("damaged CURRENT", "open", data, "").set()
    command = [os.path.join(BIN, "reprise-server"), "--set", f"cache.store.path={data}", "--set", "cache.store.required=true"]
    for setting in (*settings_of(fixture.model), *[f"listen.{name}=127.0.0.1:0" for name in ("inference", "admin", "http")]):
        command += ["--set", setting]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    named = "cache.store.path" in done.stderr and data in done.stderr
    check("store.required with a store that will not open", f"exit {done.returncode}, setting and folder named: {named}", "1, True",
          done.returncode == 1 and named)


def cells():
    table = [(name, phase) for name in [*SHIMMED, "deleted folder"] for phase in PHASES] + [("damaged CURRENT", "open")]
    if QUICK:  # each fault once, each phase a few times
        table = [cell for at, cell in enumerate(table) if at % 4 == 0 or cell[0] == "damaged CURRENT"]
    return table


def line_3_faults():
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reprise-faults-", ignore_cleanup_errors=True) as work:
        model = write_tiny_llama(os.path.join(work, "model"))
        os.makedirs(os.path.join(work, "cold"))
        with Cold(work, model) as cold:
            fixture = Fixture(work, model, cold)
            for name, phase in cells():
                cell = Cell(fixture, name, phase)
                cell.run()
                cell.judge()
            check_lock(fixture)
            check_required(fixture)
    show("storage faults: seconds", f"{time.monotonic() - started:.0f}")
