"""The request list that every system gets: what `reprise bench` would send for a profile.

`reprise bench` runs against a server of this file that answers at once and writes down what it was asked; the times are
those of the schedule, as the run's requests.jsonl has them. Replies that a later turn sends back are made up here, so
they are the same for all systems and no system's own.
"""

import collections
import concurrent.futures
import json
import os
import random
import subprocess

import grpc

import common
from load_clients import SERVICE, message_classes

RECORDING_RATE = 20    # requests/s; times are stretched to the rate that is measured
RECORDING_SPEEDUP = 600  # of thinking, so that it is 30 at one request a second

Request = collections.namedtuple("Request", "seconds ids tokens")  # at one request a second on average


class Recorder:
    """A GenerationService on a free port; a context manager that ends it. `asked` has (ids, tokens) by request id."""

    def __init__(self, model):
        self.asked = {}
        self.model = model
        self.messages = message_classes()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
        handlers = {"GetModel": self._handler(grpc.unary_unary_rpc_method_handler, "GetModel", self._get_model),
                    "StreamGenerate": self._handler(grpc.unary_stream_rpc_method_handler, "StreamGenerate", self._stream)}
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(None).wait()

    def _handler(self, make, method, behaviour):
        return make(behaviour, request_deserializer=self.messages[method][0].FromString,
                    response_serializer=lambda reply: reply.SerializeToString())

    def _get_model(self, _request, _context):
        reply = self.messages["GetModel"][1]()
        reply.model.ParseFromString(self.model.SerializeToString())  # its class is another client's
        return reply

    def _stream(self, request, context):
        ids, tokens = list(request.spec.prompt.token_ids.ids), request.spec.max_output_tokens
        name = dict(context.invocation_metadata())["x-request-id"]
        self.asked[name] = (ids, tokens)
        made_up = random.Random(f"{len(ids)} {ids[-1]}")
        chunk, last = self.messages["StreamGenerate"][1](), self.messages["StreamGenerate"][1]()
        chunk.chunk.token_ids.extend(made_up.randrange(300, self.model.vocabulary_size - 300) for _ in range(tokens))
        last.completed.finish_reason = 3  # MAX_TOKENS
        last.completed.token_ids.extend(chunk.chunk.token_ids)
        last.completed.usage.prompt_token_count = last.completed.usage.computed_token_count = len(ids)
        last.completed.usage.output_token_count = tokens
        yield chunk
        yield last


def record(model, profile, count, seed, length_scale, folder):
    """`count` requests of a profile in the order of their times, from 0 on. `model` is GetModel's Model."""
    with Recorder(model) as recorder:
        done = subprocess.run(
            [os.path.join(common.BIN, "reprise"), "--address", recorder.address, "bench", "--no-progress", "--profile", profile,
             "--rate", str(RECORDING_RATE), "--speedup", str(RECORDING_SPEEDUP), "--requests", str(count), "--workload-seed",
             str(seed), "--length-scale", str(length_scale), "--output", folder],
            cwd=common.ROOT, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"reprise bench --profile {profile}: {done.stderr.strip()[-1000:]}")
        with open(os.path.join(folder, "requests.jsonl"), encoding="utf-8") as file:
            lines = sorted(map(json.loads, file), key=lambda line: line["scheduled_seconds"])
        first = lines[0]["scheduled_seconds"]
        return [Request(RECORDING_RATE * (line["scheduled_seconds"] - first), *recorder.asked[line["request_id"]])
                for line in lines]
