"""The systems under load, each through its own server, as its users would start it."""

import os
import subprocess
import tempfile
import time

import common
import models
import rows
import run_llama
import settings
from load_clients import GrpcClient, HttpClient
from run_llama_server import LlamaServer
from server_process import Server, free_ports  # of tests/verify, whose path load_clients adds

READY_SECONDS = 120
LLAMA_FLAGS = f"-np 4 -c 32768 {settings.LLAMA_SERVER[0]}"  # four slots with the model's window each
OUR_SETTINGS = ("model.weight_dtype=BF16", "cache.retrieval_mode=PREFIX")


class Reprise:
    name = "reprise"

    def __init__(self, model, threads):
        self.work = tempfile.TemporaryDirectory(prefix="reprise-load-")
        self.server = Server(os.path.join(self.work.name, "data"), f"model.path={models.path(model, settings.OURS['bf16'])}",
                             f"model.thread_count={threads}", *OUR_SETTINGS)
        self.pid = self.server.process.pid
        self.client = GrpcClient(self.server.address)

    def version(self):
        done = subprocess.run([os.path.join(common.BIN, "reprise-server"), "--version"], capture_output=True, text=True, check=True)
        return f"{done.stdout.strip()}; {' '.join(OUR_SETTINGS)}; {self.client.model().numerics_id}"

    def stop(self):
        self.server.stop()
        self.work.cleanup()


class Llama:
    name = "llama-server"

    def __init__(self, model, threads):
        self.server = LlamaServer(models.path(model, "bf16"), threads, LLAMA_FLAGS)
        try:
            self.server.__enter__()
        except BaseException:  # an interrupt while it starts must not leave it behind
            self.stop()
            raise
        self.pid = self.server.process.pid
        self.client = HttpClient(self.server.port)

    def version(self):
        return f"{run_llama.version()}; {LLAMA_FLAGS}, prompt cache on"

    def stop(self):
        self.server.__exit__()


class HuggingFace:
    name = "Hugging Face loop"

    def __init__(self, model, threads):
        port = free_ports(1)[0]
        self.process = subprocess.Popen([rows.PYTHON, os.path.join(rows.HERE, "serve_transformers.py"), models.path(model, "hf"),
                                         str(threads), str(port)])
        self.pid = self.process.pid
        self.client = HttpClient(port)
        try:
            self.facts = self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_ready(self):
        limit = time.monotonic() + READY_SECONDS
        while True:
            try:
                return self.client.get("/")
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > limit:
                    raise RuntimeError("serve_transformers.py is not ready") from error
                time.sleep(0.1)

    def version(self):
        return f"transformers {self.facts['version']}, torch {self.facts['torch']}; generate(), one request at a time"

    def stop(self):
        self.process.terminate()
        self.process.wait()


SYSTEMS = (Reprise, Llama, HuggingFace)
