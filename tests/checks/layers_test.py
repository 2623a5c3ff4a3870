#!/usr/bin/env python3
"""Plants one violation at a time in a copy of the tree and asserts that
layers.py fails and names its rule, and that the tree itself passes."""

import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

# Rule, file that is planted, its text.
PLANTS = [
    ("R1", "core/kv/planted.cc", '#include "core/store/kv_store.h"\n'),
    ("R1", "core/base/planted.h", '#include "core/kv/block_pool.h"\n'),
    ("R1", "core/similarity/planted.cc", '  #  include "core/engine/engine.h"\n'),
    ("R2", "core/engine/planted.cc", "#include <rocksdb/db.h>\n"),
    ("R2", "core/engine/planted.cc", '#include "torch/torch.h"\n'),
    ("R2", "core/engine/planted.cc", '#include "server/grpc_server.h"\n'),
    ("R3", "core/engine/planted.cc", '#include "reprise/inference/v1/generation.pb.h"\n'),
    ("R3", "core/telemetry/planted.cc", "#include <grpcpp/grpcpp.h>\n"),
    ("R3", "core/base/planted.cc", '#include "google/protobuf/message.h"\n'),
    ("R4", "server/planted.cc", '#include "core/store/rocksdb_store.h"\n'),
    ("R4", "core/engine/planted.cc", '#include "core/similarity/faiss_index.h"\n'),
    ("R5", "client/planted.cc", '#include "core/engine/engine.h"\n'),
    ("R5", "client/planted.cc", '#include "core/text/tokenizer.h"\n'),
    ("VENDOR", "server/planted.cc", "#include <spdlog/spdlog.h>\n"),
    ("VENDOR", "core/text/planted.cc", "#include <nlohmann/json.hpp>\n"),
    ("LAYER", "client/planted.cc", '#include "server/grpc_server.h"\n'),
    ("LAYER", "core/novel/planted.cc", "\n"),
    ("SIZE", "server/planted.cc", "\n" * 401),
]

# Violations must not be seen where there is none.
ALLOWED = [
    ("server/build_planted.cc", '#include "core/store/rocksdb_store.h"\n'),
    ("core/store/planted.cc", '#include "core/store/rocksdb_store.h"\n#include <rocksdb/db.h>\n'),
    ("core/engine/planted.cc", '#include "core/store/kv_store.h"\n#include "absl/time/time.h"\n'),
    ("server/planted.cc", "\n" * 400),
]


def run_check(root):
    done = subprocess.run([sys.executable, os.path.join(HERE, "layers.py"), root], stdout=subprocess.PIPE, text=True,
                          check=False)
    return done.returncode, done.stdout


def with_plant(root, path, text):
    full = os.path.join(root, path)
    made = not os.path.isdir(os.path.dirname(full))
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as file:
        file.write(text)
    code, output = run_check(root)
    if made:
        shutil.rmtree(os.path.dirname(full))
    else:
        os.remove(full)
    return code, [line for line in output.splitlines() if line.startswith(f"{path}:")], output


def failures_in(root):
    for rule, path, text in PLANTS:
        code, lines, output = with_plant(root, path, text)
        if code != 1 or len(lines) != 1 or f": {rule}: " not in lines[0]:
            yield f"{rule} planted in {path} ({text.strip()[:60]}): exit {code}\n{output}"
    for path, text in ALLOWED:
        code, lines, output = with_plant(root, path, text)
        if code != 0 or lines:
            yield f"{path} is allowed but was refused: exit {code}\n{output}"


def main():
    code, output = run_check(ROOT)
    if code != 0:
        sys.exit(f"the tree itself fails:\n{output}")
    with tempfile.TemporaryDirectory() as root:
        for folder in ("core", "server", "client"):
            if os.path.isdir(os.path.join(ROOT, folder)):
                shutil.copytree(os.path.join(ROOT, folder), os.path.join(root, folder))
        failures = list(failures_in(root))
    for failure in failures:
        print(failure)
    caught = len(PLANTS) - len(failures)
    print(f"{caught} of {len(PLANTS)} planted violations caught, {len(ALLOWED)} allowed includes tried; the tree passes")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
