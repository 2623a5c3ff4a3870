"""Runs a Prometheus (Debian's) on a server's metrics with the rules of deploy/prometheus, for the checks of tests/verify."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from server_process import ROOT, free_ports

RULES = os.path.join(ROOT, "deploy", "prometheus", "alerts.yml")


class Prometheus:
    """Scrapes `target` (host:port) each second as the job "reprise"; a context manager. Its data lies in `folder`."""

    def __init__(self, folder, target):
        self.port = free_ports(1)[0]
        config = os.path.join(folder, "prometheus.yml")
        with open(config, "w", encoding="utf-8") as file:
            file.write("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
                       f"rule_files: ['{RULES}']\n"
                       f"scrape_configs: [{{job_name: reprise, static_configs: [{{targets: ['{target}']}}]}}]\n")
        self.log = open(os.path.join(folder, "prometheus.log"), "wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={os.path.join(folder, 'tsdb')}",
             f"--web.listen-address=127.0.0.1:{self.port}"], stdout=self.log, stderr=self.log)

    def __enter__(self):
        limit = time.monotonic() + 60
        while True:
            try:
                self.get("query", query="vector(1)")
                return self
            except (OSError, RuntimeError):
                if self.process.poll() is not None or time.monotonic() > limit:
                    self.__exit__()
                    raise
                time.sleep(0.1)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.log.close()

    def get(self, path, **parameters):
        """What the HTTP API answers; RuntimeError with its words when it refuses."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            # While it starts, what it says is no JSON.
            raise RuntimeError(f"{error}: {error.read().decode(errors='replace')}") from error

    def values(self, query, start, end):
        """The finite values of all series of `query` between two times."""
        result = self.get("query_range", query=query, start=start, end=end, step=1)["result"]
        numbers = [float(value) for series in result for _, value in series["values"]]
        return [number for number in numbers if abs(number) < float("inf")]
