"""Starts and stops a reprise-server for the checks of tests/verify."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("REPRISE_BIN", os.path.join(ROOT, "build", "release", "bin"))
SMOLLM2 = os.path.join(ROOT, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
PEERS_PYTHON = os.path.join(ROOT, ".venv-peers", "bin", "python3")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Server:
    """One server on free ports over `data`; a context manager that ends it. With `wait` false it may still be starting;
    `environment` goes over this process's."""

    def __init__(self, data, *settings, wait=True, environment=None):
        self.grpc_port, self.admin_port, self.http_port = free_ports(3)
        values = [
            f"listen.inference=127.0.0.1:{self.grpc_port}",
            f"listen.admin=127.0.0.1:{self.admin_port}",
            f"listen.http=127.0.0.1:{self.http_port}",
            f"cache.store.path={data}",
            *settings,
        ]
        command = [os.path.join(BIN, "reprise-server")]
        for value in values:
            command += ["--set", value]
        self.log_path = os.path.join(os.path.dirname(data), "server.log")
        self.log = open(self.log_path, "ab")
        started = time.monotonic()
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=self.log, stdout=self.log,
                                        env={**os.environ, **(environment or {})})
        if not wait:
            return
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        self.ready_seconds = time.monotonic() - started

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def address(self):
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def admin_address(self):
        return f"127.0.0.1:{self.admin_port}"

    def _wait_ready(self):
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                raise RuntimeError(f"reprise-server ended with {self.process.returncode}; see {self.log_path}")
            try:
                if self.http("/readyz", timeout=1)[0] == 200:
                    return
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.02)
        raise RuntimeError("reprise-server is not ready after 120 s")

    def http(self, path, timeout=10):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=timeout) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name):
        """The sum over the label sets of one sample name."""
        text = self.http("/metrics")[1]
        values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.M)
        return sum(float(v) for v in values)

    def cli(self, *arguments):
        command = [os.path.join(BIN, "reprise"), "--address", self.address,
                   "--admin-address", self.admin_address, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)

    def generate(self, prompt, *options):
        done = self.cli("--json", "generate", prompt, *options)
        if done.returncode != 0:
            raise RuntimeError(f"reprise generate failed: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def stats(self):
        return json.loads(self.cli("--json", "stats").stdout)

    def wait_cached(self, vectors):
        """Until nothing is left to write and `vectors` prompts are indexed."""
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            stats = self.stats()
            if int(stats["disk"]["pending_segment_count"]) == 0 and int(stats["similarity"]["vector_count"]) >= vectors:
                return
            time.sleep(0.1)
        raise RuntimeError("the cache did not settle within 120 s")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def stop(self):
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=60)
        self.log.close()
        return self.process.returncode
