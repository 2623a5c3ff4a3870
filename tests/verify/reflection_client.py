#!/usr/bin/env python3
"""Calls Generate and StreamGenerate knowing nothing but the server's address:
services, messages and fields come from gRPC reflection."""

import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "reprise.inference.v1.GenerationService"


def main():
    channel = grpc.insecure_channel(sys.argv[1])
    database = ProtoReflectionDescriptorDatabase(channel)
    if SERVICE not in database.get_services():
        sys.exit(f"{SERVICE} is not listed: {list(database.get_services())}")
    pool = descriptor_pool.DescriptorPool(database)
    service = pool.FindServiceByName(SERVICE)

    def call(name, make):
        method = service.FindMethodByName(name)
        request = message_factory.GetMessageClass(method.input_type)()
        request.spec.prompt.text = "The capital of France is"
        request.spec.max_output_tokens = 5
        response = message_factory.GetMessageClass(method.output_type)
        stub = make(f"/{SERVICE}/{name}", request_serializer=lambda m: m.SerializeToString(),
                    response_deserializer=response.FromString)
        return stub(request, timeout=60)

    reply = call("Generate", channel.unary_unary).generation
    events = list(call("StreamGenerate", channel.unary_stream))
    text = "".join(e.chunk.text for e in events if e.HasField("chunk"))
    if not events[-1].HasField("completed") or events[-1].completed.text != reply.text or text != reply.text:
        sys.exit(f"the stream says {text!r}, the unary reply {reply.text!r}")
    print(f"Generate and StreamGenerate agree on {reply.text!r}")


if __name__ == "__main__":
    main()
