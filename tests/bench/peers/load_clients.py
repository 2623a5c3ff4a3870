"""Streaming clients of the systems under load. Each sends one request and returns a Reply; the clock is the same.

HttpClient speaks llama-server's /completion, which serve_transformers.py has too; GrpcClient our StreamGenerate.
"""

import collections
import http.client
import json
import os
import sys
import time

import common

sys.path.insert(0, os.path.join(common.ROOT, "tests", "verify"))
import generation_client  # noqa: E402  pylint: disable=wrong-import-position

SERVICE = generation_client.SERVICE
TIMEOUT_SECONDS = 300

# arrivals: seconds (of time.monotonic) at which chunks with tokens came; tokens and reused as the server counts them.
Reply = collections.namedtuple("Reply", "arrivals tokens reused")


def message_classes():
    """Method -> (request class, reply class) of our service."""
    from google.protobuf import message_factory
    return {method.name: tuple(map(message_factory.GetMessageClass, (method.input_type, method.output_type)))
            for method in generation_client.load_service().methods}


class GrpcClient:
    def __init__(self, address):
        self.client = generation_client.Client(address)

    def model(self):
        request, stub = self.client.calls["GetModel"]
        return stub(request(), timeout=TIMEOUT_SECONDS).model

    def send(self, ids, tokens):
        arrivals, usage = [], None
        call = self.client.calls["StreamGenerate"][1]
        for event in call(self.client.request("StreamGenerate", ids, tokens), timeout=TIMEOUT_SECONDS):
            if event.chunk.token_ids:
                arrivals.append(time.monotonic())
            if event.HasField("completed"):
                usage = event.completed.usage
        return Reply(arrivals, usage.output_token_count, usage.cached_token_count)


class HttpClient:
    def __init__(self, port):
        self.port = port

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            return json.load(connection.getresponse())
        finally:
            connection.close()

    def send(self, ids, tokens):
        body = json.dumps({"prompt": ids, "n_predict": tokens, "cache_prompt": True, "temperature": 0, "ignore_eos": True,
                           "stream": True, "return_tokens": True})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("POST", "/completion", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            if reply.status != 200:
                raise RuntimeError(f"HTTP {reply.status}: {reply.read(500)!r}")
            return self._read(reply)
        finally:
            connection.close()

    @staticmethod
    def _read(lines):
        arrivals = []
        for line in lines:
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if event.get("tokens"):
                arrivals.append(time.monotonic())
            if event.get("stop"):
                return Reply(arrivals, event["tokens_predicted"], event["timings"]["cache_n"])
        raise RuntimeError("the stream ended without its last event")
