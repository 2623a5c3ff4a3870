"""Prompts put on servers by tests/bench/cache_load.cc, and the cold replies they are compared with."""

import os
import re
import subprocess

from report import run
from server_process import BIN, ROOT, Server

LONGEST_REPLY = 12  # of the load


class Event:
    """A line that cache_load prints."""

    def __init__(self, line):
        words = line.split(" ")
        self.kind = words[0]
        self.line = line
        if self.kind == "reply":
            self.caches, self.cached, self.disk, self.seconds = words[1] == "1", int(words[2]), int(words[3]), float(words[4])
            self.prompt, self.reply = words[5], words[6]
        elif self.kind == "warmed":
            self.prompt = words[1]
        elif self.kind == "durable":
            self.replies = int(words[1])

    @property
    def whole(self):
        """Prompt and reply: what is cached, but for its last token."""
        return f"{self.prompt},{self.reply}" if self.reply else self.prompt


def command(server, *arguments):
    return [os.path.join(BIN, "cache_load"), server.address, server.admin_address, *[str(a) for a in arguments]]


def start_load(server, seed):
    return subprocess.Popen(command(server, "load", seed), cwd=ROOT, stdout=subprocess.PIPE, text=True)


def events(text):
    """Whole lines only: the load itself is never killed, but a server may be at any moment."""
    return [Event(line) for line in text.splitlines()]


def ask(server, policy, prompts, output_tokens=LONGEST_REPLY):
    """The events of asking `prompts` one after another."""
    if not prompts:
        return []
    _, output, _ = run(command(server, "ask", policy, output_tokens), input="\n".join(prompts) + "\n")
    return events(output)


class Cold:
    """Replies of a server that has no store and computes everything."""

    def __init__(self, work, model):
        self._server = Server(os.path.join(work, "cold", "data"), *settings_of(model), "cache.store.enabled=false")
        self._known = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stop()

    def wrong(self, replies):
        """How many of the reply events are not what a cold server says."""
        unknown = sorted({reply.prompt for reply in replies} - self._known.keys())
        for event in ask(self._server, "BYPASS", unknown):
            if event.kind != "reply":
                raise RuntimeError(f"the cold server failed: {event.line}")
            self._known[event.prompt] = event.reply.split(",")
        return sum(self._known[r.prompt][:r.reply.count(",") + 1] != r.reply.split(",") for r in replies)


def settings_of(model):
    """Every reply is written at once: what is acknowledged, damaged or kept from the store is then known."""
    return (f"model.path={model}", "model.thread_count=1", "cache.similarity.enabled=false", "cache.store.flush_after_idle=0s",
            "cache.store.write_selectively=false", "cache.host_bytes=33554432", "log.level=WARNING")


def verify_store(data, *flags):
    """(exit code, figures, output) of reprise cache verify over a folder that nobody holds."""
    code, output, _ = run([os.path.join(BIN, "reprise"), "cache", "verify", data, *flags])
    return code, {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", output, re.M)}, output
