#!/usr/bin/env python3
"""Sends mixed requests to a server: both ways to generate and all other RPCs, every cache policy and retrieval mode,
speculation, retries, deadlines, cancellations, what is refused and what cannot be read.

usage: mixed_requests.py INFERENCE_ADDRESS ADMIN_ADDRESS REQUESTS THREADS

Knows nothing but reflection. Prints one line of JSON: calls by outcome, and of each reply that ended well its usage and
reuse by request id.
"""

import collections
import json
import random
import sys
import threading
import time

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

GENERATION = "reprise.inference.v1.GenerationService"
ADMIN = "reprise.admin.v1.CacheAdminService"
FAMILIES, LONGEST = 120, 400  # prompts begin like one of so many texts
PAUSES, PAUSE_SECONDS = 12, 0.4  # of all threads together: the server writes what is cached once it is idle
RETRIED = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


class Service:
    def __init__(self, address, name):
        self.channel = grpc.insecure_channel(address)
        self.name = name
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        self.methods = {m.name: m for m in pool.FindServiceByName(name).methods}
        self.requests = {n: message_factory.GetMessageClass(m.input_type) for n, m in self.methods.items()}
        self.replies = {n: message_factory.GetMessageClass(m.output_type) for n, m in self.methods.items()}
        self.stubs = {}
        for method in self.methods:
            make = self.channel.unary_stream if method == "StreamGenerate" else self.channel.unary_unary
            self.stubs[method] = make(f"/{name}/{method}", request_serializer=self.serialize,
                                      response_deserializer=self.replies[method].FromString)

    @staticmethod
    def serialize(message):
        return message if isinstance(message, bytes) else message.SerializeToString()


class Driver:
    """One thread's share of the requests."""

    def __init__(self, inference, admin, seed, pause):
        self.inference, self.admin, self.pause = inference, admin, pause
        self.random = random.Random(seed)
        self.outcomes, self.replies, self.retries, self.seed = collections.Counter(), {}, 0, seed

    def prompt_text(self):
        letters = random.Random(self.random.randrange(FAMILIES))
        whole = "".join(letters.choice("etaoin shrdlu") for _ in range(LONGEST))
        text = whole[:self.random.randrange(1, LONGEST)]
        if self.random.random() < 0.3:
            text += str(self.random.randrange(10 ** 6))
        return text

    def spec(self, spec):
        text = self.prompt_text()
        if self.random.random() < 0.3:
            spec.prompt.token_ids.ids.extend(text.encode())
        else:
            spec.prompt.text = text
        spec.max_output_tokens = self.random.choice([0, 1, 4, 12, 24])
        spec.cache.policy = self.random.choices([0, 1, 2, 3, 4], [2, 3, 6, 1, 1])[0]
        spec.cache.retrieval_mode = self.random.choices([0, 1, 2, 3], [10, 10, 1, 10])[0]
        if self.random.random() < 0.1:
            spec.cache.minimum_reuse_token_count = self.random.randrange(300)
        if self.random.random() < 0.3:
            spec.speculation.mode = 2
        spec.sampling.temperature = self.random.choice([0, 0, 1])
        spec.sampling.ignore_eos = self.random.random() < 0.5
        if self.random.random() < 0.1:
            spec.stop_sequences.append(self.random.choice("etaoin"))
        return spec

    def spoil(self, spec):
        """Makes of a request one that is refused."""
        kind = self.random.randrange(7)
        if kind == 0:
            spec.prompt.text = ""
        elif kind == 1:
            spec.max_output_tokens = -1
        elif kind == 2:
            spec.model = "another"
        elif kind == 3:
            spec.n = 3
        elif kind == 4:
            spec.prompt.token_ids.ids.append(100000)
        elif kind == 5:
            spec.prompt.text = "x" * 2000  # past the context
        else:
            spec.sampling.temperature = -3

    def metadata(self, number):
        return (("x-request-id", f"mixed-{self.seed}-{number}"),)

    def generate(self, number):
        request = self.inference.requests["Generate"]()
        self.spec(request.spec)
        if self.random.random() < 0.06:
            self.spoil(request.spec)
        timeout = self.random.choice([0.002, 0.01, 0.05]) if self.random.random() < 0.06 else 60
        for attempt in range(4):
            call = self.inference.stubs["Generate"].future(request, timeout=timeout,
                                                           metadata=self.metadata(f"{number}-{attempt}"))
            if self.random.random() < 0.08:
                time.sleep(self.random.random() * 0.02)
                call.cancel()
            code = self.ended(call)
            if code == grpc.StatusCode.OK:
                self.replies[f"mixed-{self.seed}-{number}-{attempt}"] = json_format.MessageToDict(
                    call.result().generation, preserving_proto_field_name=True)
            if code not in RETRIED:
                return
            self.retries += 1
            time.sleep(0.01 * 2 ** attempt)

    @staticmethod
    def code_of(call):
        try:
            return call.code()
        except grpc.FutureCancelledError:
            return grpc.StatusCode.CANCELLED

    def ended(self, call):
        try:
            call.exception()
        except grpc.FutureCancelledError:
            pass
        code = self.code_of(call)
        self.outcomes[code.name] += 1
        return code

    def stream(self, number):
        request = self.inference.requests["StreamGenerate"]()
        self.spec(request.spec)
        if self.random.random() < 0.05:
            self.spoil(request.spec)
        call = self.inference.stubs["StreamGenerate"](request, timeout=60, metadata=self.metadata(number))
        leave_after = self.random.randrange(6) if self.random.random() < 0.15 else None
        try:
            for seen, event in enumerate(call):
                if event.HasField("completed"):
                    self.replies[f"mixed-{self.seed}-{number}"] = json_format.MessageToDict(
                        event.completed, preserving_proto_field_name=True)
                elif seen == leave_after:
                    call.cancel()
        except grpc.RpcError:
            pass
        self.outcomes[call.code().name] += 1

    def other(self, number):
        service, method = self.random.choice([
            (self.inference, "CountTokens"), (self.inference, "GetModel"), (self.inference, "ExplainPrompt"),
            (self.admin, "GetCacheStats"), (self.admin, "ListCacheEntries")])
        request = service.requests[method]()
        if method in ("CountTokens", "ExplainPrompt") and self.random.random() < 0.95:
            request.prompt.text = self.prompt_text()
        self.ended(service.stubs[method].future(request, timeout=60, metadata=self.metadata(number)))

    def unreadable(self, number):
        """Bytes that are no message, and a text that is no UTF-8."""
        body = self.random.choice([b"\xff\xff\xff", b"\x0a\x06\x0a\x04\x0a\x02\xc3\x28"])
        self.ended(self.inference.stubs["Generate"].future(body, timeout=60, metadata=self.metadata(number)))

    def run(self, requests):
        for number in range(requests):
            if number % max(1, requests // PAUSES) == 0:
                self.pause.wait()
                time.sleep(PAUSE_SECONDS)
            self.random.choices([self.generate, self.stream, self.other, self.unreadable], [60, 30, 9, 1])[0](number)


def main():
    inference, admin = Service(sys.argv[1], GENERATION), Service(sys.argv[2], ADMIN)
    requests, threads = int(sys.argv[3]), int(sys.argv[4])
    pause = threading.Barrier(threads)
    drivers = [Driver(inference, admin, seed, pause) for seed in range(threads)]
    workers = [threading.Thread(target=driver.run, args=(-(-requests // threads),)) for driver in drivers]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    outcomes, replies = collections.Counter(), {}
    for driver in drivers:
        outcomes.update(driver.outcomes)
        replies.update(driver.replies)
    print(json.dumps({"outcomes": outcomes, "retries": sum(d.retries for d in drivers), "replies": replies}))


if __name__ == "__main__":
    main()
