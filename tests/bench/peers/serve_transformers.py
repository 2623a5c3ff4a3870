#!/usr/bin/env python3
"""A Hugging Face loop behind HTTP, as the usual script has it: generate() for one request at a time in the order of arrival,
greedy, the KV of each request its own. Speaks as much of llama-server's /completion as load_clients.py needs.

usage: serve_transformers.py MODEL_FOLDER THREADS PORT     (bfloat16)
"""

import http.server
import json
import sys

import torch
import transformers


class Streamer(transformers.generation.streamers.BaseStreamer):
    """Writes each new token as an event; generate() first gives the prompt."""

    def __init__(self, write):
        self.write = write
        self.count = -1

    def put(self, value):
        if self.count >= 0:
            self.write({"tokens": value.flatten().tolist(), "stop": False})
        self.count += 1

    def end(self):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    model = None

    def log_message(self, *_):
        """Says nothing."""

    def write(self, event):
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def do_GET(self):
        body = json.dumps({"version": transformers.__version__, "torch": torch.__version__}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        ids, streamer = torch.tensor([asked["prompt"]]), Streamer(self.write)
        self.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, streamer=streamer,
                            max_new_tokens=asked["n_predict"], min_new_tokens=asked["n_predict"])
        self.write({"stop": True, "tokens_predicted": streamer.count, "timings": {"prompt_n": ids.shape[1], "cache_n": 0}})


class Server(http.server.HTTPServer):
    request_queue_size = 1024


def main():
    folder, threads, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    Handler.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
