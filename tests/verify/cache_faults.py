"""Lines of verify-cache on what goes wrong: killed servers, damaged entries, failing storage."""

import os
import random
import signal
import tempfile
import time

from cache_integrity import line_2_integrity  # noqa: F401  called by verify_cache.py
from cache_prompts import Cold, ask, events, settings_of, start_load, verify_store
from cache_storage_faults import line_3_faults  # noqa: F401  called by verify_cache.py
from report import QUICK, check, show
from server_process import Server
from tiny_llama import SEGMENT_BYTES, write_tiny_llama

ROOMY, SMALL = "roomy", "small"
CAPS = {ROOMY: 1 << 33, SMALL: 150 * SEGMENT_BYTES}
OLD_ONES = 20  # asked again after each kill


class Kills:
    """Two stores, one of them at its cap, whose servers are killed again and again."""

    def __init__(self, work, model, cold):
        self.chosen = random.Random(5)
        self.data = {kind: os.path.join(work, kind, "data") for kind in CAPS}
        self.model, self.cold = model, cold
        for path in self.data.values():
            os.makedirs(os.path.dirname(path))
        self.acknowledged = {kind: {} for kind in CAPS}  # prompts, in order
        self.new = {kind: [] for kind in CAPS}           # since the last start
        self.server = None
        self.start_seconds = 0.7
        self.counts = dict.fromkeys(("kills", "starting", "loaded", "draining", "drains", "failed_starts", "failed_drains", "replies",
                                     "warm", "wrong", "unsound", "warmed", "in_doubt", "failed_asks"), 0)
        self.asked, self.reused = dict.fromkeys(CAPS, 0), dict.fromkeys(CAPS, 0)

    def start(self, kind, wait=True):
        similarity = "true" if self.chosen.random() < 0.2 else "false"
        self.server = Server(self.data[kind], *settings_of(self.model), f"cache.store.max_bytes={CAPS[kind]}",
                             f"cache.similarity.enabled={similarity}", wait=wait)
        return self.server

    def end_server(self):
        """Whatever a round that failed has left."""
        if self.server is not None and self.server.process.poll() is None:
            self.server.kill()

    def ask_again(self, server, kind, prompts):
        """What was acknowledged is reused to its last token, and gives the cold reply."""
        replies = [event for event in ask(server, "FORCE", prompts, 3) if event.kind == "reply"]
        self.counts["failed_asks"] += len(prompts) - len(replies)
        self.counts["replies"] += len(replies)
        self.counts["warm"] += sum(reply.cached > 0 for reply in replies)
        self.counts["wrong"] += self.cold.wrong(replies)
        self.asked[kind] += len(prompts)
        self.reused[kind] += sum(reply.cached == reply.prompt.count(",") for reply in replies)

    def note(self, kind, seen, drained):
        """Judges the replies of a load and keeps what was acknowledged."""
        replies = [event for event in seen if event.kind == "reply"]
        durable = max([event.replies for event in seen if event.kind == "durable"], default=0)
        kept = [reply.whole for reply in (replies if drained else replies[:durable]) if reply.caches]
        kept += [event.prompt for event in seen if event.kind == "warmed"]
        self.counts["warmed"] += sum(event.kind == "warmed" for event in seen)
        self.counts["replies"] += len(replies)
        self.counts["warm"] += sum(reply.cached > 0 for reply in replies)
        self.counts["wrong"] += self.cold.wrong(replies)
        self.new[kind] = [prompt for prompt in kept if prompt not in self.acknowledged[kind]]
        self.acknowledged[kind].update(dict.fromkeys(kept))

    def end(self, server, how):
        """Kills a loaded server, at once, while it drains or not at all. Whether it drained."""
        time.sleep(self.chosen.uniform(0, 0.6))
        if how == "loaded":
            server.kill()
            return False
        server.process.send_signal(signal.SIGTERM)
        if how == "draining":
            time.sleep(self.chosen.uniform(0, 0.03))
            server.kill()
            return False
        self.counts["failed_drains"] += server.stop() != 0
        return True

    def round(self, kind, how):
        if how == "starting":
            server = self.start(kind, wait=False)
            time.sleep(self.chosen.uniform(0, 1.2 * self.start_seconds))
            server.kill()
        else:
            try:
                server = self.start(kind)
            except RuntimeError as error:
                self.counts["failed_starts"] += 1
                show("a start that failed", str(error))
                return
            self.start_seconds = server.ready_seconds
            old = list(self.acknowledged[kind])
            self.ask_again(server, kind, self.new[kind] + self.chosen.sample(old, min(OLD_ONES, len(old))))
            load = start_load(server, self.chosen.randrange(1 << 20))
            drained = self.end(server, how)
            self.note(kind, events(load.communicate()[0]), drained)
        self.counts["drains" if how == "drained" else how] += 1
        self.counts["kills"] += how != "drained"
        self.scrub(kind)

    def scrub(self, kind):
        if not os.path.exists(os.path.join(self.data[kind], "CURRENT")):
            return  # killed before there was a store
        code, figures, output = verify_store(self.data[kind])
        self.counts["unsound"] += code != 0
        self.counts["in_doubt"] += figures.get("in_doubt", 0)
        if code != 0:
            print(output[-1000:])

    def finish(self, kind):
        """All that was ever acknowledged, and a drain after which nothing is in doubt."""
        with self.start(kind) as server:
            self.ask_again(server, kind, list(self.acknowledged[kind]))
        self.scrub(kind)


def line_1_kills():
    rounds = 20 if QUICK else 200
    ways = ["loaded", "starting", "loaded", "drained", "loaded", "draining", "loaded"]
    with tempfile.TemporaryDirectory(prefix="reprise-kills-", ignore_cleanup_errors=True) as work:
        model = write_tiny_llama(os.path.join(work, "model"))
        os.makedirs(os.path.join(work, "cold"))
        started = time.monotonic()
        with Cold(work, model) as cold:
            kills = Kills(work, model, cold)
            at = 0
            try:
                while kills.counts["kills"] < rounds and kills.counts["failed_starts"] == 0:
                    kills.round(SMALL if at % 2 else ROOMY, ways[at // 2 % len(ways)])
                    at += 1
            finally:
                kills.end_server()
            for kind in CAPS:
                kills.finish(kind)
        report_kills(kills, rounds, time.monotonic() - started)


def report_kills(kills, rounds, seconds):
    counts = kills.counts
    check("kill -9 of the server at random moments",
          f"{counts['kills']} kills ({counts['loaded']} under load, {counts['starting']} starting, {counts['draining']} draining), "
          f"{counts['drains']} drains, {seconds:.0f} s", f">= {rounds}", counts["kills"] >= rounds)
    check("replies that differ from a cold server's", f"{counts['wrong']} of {counts['replies']}, {counts['warm']} of them warm",
          "0, some warm", counts["wrong"] == 0 and counts["warm"] > 0)
    check("failed starts, drains and asks", f"{counts['failed_starts']}, {counts['failed_drains']}, {counts['failed_asks']}", "0, 0, 0",
          counts["failed_starts"] == counts["failed_drains"] == counts["failed_asks"] == 0)
    check("acknowledged entries reused to their last token after a restart",
          f"{kills.reused[ROOMY]} of {kills.asked[ROOMY]} asked, {len(kills.acknowledged[ROOMY])} different, "
          f"{counts['warmed']} by WarmCache", "all, >= 1 a kill",
          kills.reused[ROOMY] == kills.asked[ROOMY] and len(kills.acknowledged[ROOMY]) >= rounds)
    show("the same where entries are evicted at the cap", f"{kills.reused[SMALL]} of {kills.asked[SMALL]}")
    check("stores whose index and segments do not agree, by the scrub", f"{counts['unsound']} ({counts['in_doubt']} segments in doubt)",
          "0", counts["unsound"] == 0)
