"""A client of GenerationService whose messages come from the .proto files, so that it needs neither reflection nor
generated code: grpcio, protobuf and protoc."""

import os
import subprocess
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from server_process import ROOT

SERVICE = "reprise.inference.v1.GenerationService"
POLICIES = {"USE": 1, "FORCE": 2, "BYPASS": 3}


def load_service():
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(["protoc", "-I", os.path.join(ROOT, "proto"), "--include_imports", "-o", file.name,
                        "reprise/inference/v1/generation_service.proto"], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for proto in files.file:
        pool.Add(proto)
    return pool.FindServiceByName(SERVICE)


class Client:
    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.calls = {}
        for method in load_service().methods:
            request, reply = (message_factory.GetMessageClass(t) for t in (method.input_type, method.output_type))
            make = self.channel.unary_stream if method.name == "StreamGenerate" else self.channel.unary_unary
            stub = make(f"/{SERVICE}/{method.name}", request_serializer=lambda m: m.SerializeToString(),
                        response_deserializer=reply.FromString)
            self.calls[method.name] = (request, stub)

    def request(self, method, ids, tokens, policy="USE"):
        request = self.calls[method][0]()
        request.spec.prompt.token_ids.ids.extend(ids)
        request.spec.max_output_tokens = tokens
        request.spec.sampling.ignore_eos = True
        request.spec.cache.policy = POLICIES[policy]
        return request

    def generate(self, ids, tokens, policy="USE"):
        """The Generation of a unary call."""
        request, stub = self.request("Generate", ids, tokens, policy), self.calls["Generate"][1]
        return stub(request, timeout=120).generation

    def stream(self, ids, tokens, policy="USE"):
        """Yields the events of a stream."""
        return self.calls["StreamGenerate"][1](self.request("StreamGenerate", ids, tokens, policy), timeout=120)


def seconds(duration):
    return duration.seconds + duration.nanos * 1e-9
