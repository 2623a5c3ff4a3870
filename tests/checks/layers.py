#!/usr/bin/env python3
"""Checks who may include whom: rules R1 to R5 of ARCHITECTURE.md, the home of
each vendor library, and the length of files.

usage: layers.py [ROOT]. Prints FILE:LINE: RULE: what is wrong; exits 1 when it
found something.
"""

import os
import re
import sys

LEAVES = {"core/text", "core/kv", "core/model", "core/store", "core/similarity", "core/telemetry"}
CORE = LEAVES | {"core/base", "core/engine"}

# Folder -> the folders of ours that it may include, itself aside, and the rule
# that says so. Tests may include all.
MAY_INCLUDE = {
    "core/base": (set(), "R1"),
    **{leaf: ({"core/base"}, "R1") for leaf in LEAVES},
    "core/engine": (LEAVES | {"core/base"}, "R2"),
    "server": (CORE | {"proto"}, "LAYER"),
    "client": ({"core/base", "proto"}, "LAYER"),
}

GRPC = r"(grpc|grpcpp|grpc\+\+)/|google/(protobuf|rpc)/"
# Vendor headers -> the folders that may include them. Tests may include all.
VENDORS = [
    (GRPC, {"server", "client"}),
    (r"rocksdb/|zstd\.h|lz4", {"core/store"}),
    (r"faiss/", {"core/similarity"}),
    (r"torch/|ATen/|c10/|hwy/|cuda_\w+\.h$", {"core/model"}),
    (r"prometheus/|spdlog/|fmt/", {"core/telemetry"}),
    (r"pcre2|utf8proc", {"core/text"}),
    (r"openssl/|xxh|nlohmann/", {"core/base"}),
    (r"yaml-cpp/|httplib", {"server"}),
    (r"CLI/", {"client"}),
    (r"gtest/|gmock/|benchmark/", set()),
]

# Headers that name a concrete class: for its own module, composition and tests.
CONCRETE = re.compile(r"core/\w+/(rocksdb_store|memory_store|faiss_index|brute_force_index|cpu_runner|cuda/cuda_runner|"
                      r"sentence_encoder|\w+_tokenizer)\.h$")
INTERFACE_IMPLEMENTED = re.compile(r"class \w+ (final )?: public (ModelRunner|KvStore|VectorIndex|Tokenizer)\b")
COMPOSITION = re.compile(r"server/(main\.cc|build_\w+\.(cc|h))$")

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
SOURCES = ("core", "server", "client", "tests")
MAX_LINES = 400


def folder_of(path):
    """The layer a file of ours or an include path belongs to, or None for a vendor's."""
    parts = path.split("/")
    if parts[0] == "core" and len(parts) > 2:
        return "/".join(parts[:2])
    if parts[0] == "reprise":
        return "proto"  # generated from proto/reprise
    return parts[0] if parts[0] in ("core", "server", "client", "tests", "proto") else None


def sources(root):
    for top in SOURCES:
        for folder, folders, files in os.walk(os.path.join(root, top)):
            folders.sort()
            for name in sorted(files):
                if name.endswith((".h", ".cc", ".inc", ".cu", ".cuh")):
                    yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")


def ours_error(path, folder, target, concrete):
    """What is wrong with `path` including the header `target` of ours."""
    to = folder_of(target)
    if to != folder:
        if folder in CORE and to == "proto":
            return "R3: core never includes proto"
        if folder == "client" and to in CORE - {"core/base"}:
            return f"R5: client may include only core/base of core, not {target}"
        allowed, rule = MAY_INCLUDE[folder]
        if to not in allowed:
            return f"{rule}: {folder} may not include {target}"
        if target in concrete and not COMPOSITION.match(path):
            return f"R4: {target} names a concrete class; only server/main.cc and server/build_* may include it"
    return None


def vendor_error(folder, target):
    """What is wrong with a file of `folder` including the vendor header `target`."""
    for pattern, homes in VENDORS:
        if not re.match(pattern, target) or folder in homes:
            continue
        if folder in CORE and pattern == GRPC:
            return f"R3: core never includes gRPC or protobuf ({target})"
        if folder == "core/engine":
            return f"R2: core/engine sees no vendor header ({target})"
        return f"VENDOR: {target} belongs in {', '.join(sorted(homes)) or 'tests'}, not in {folder}"
    return None


def check_file(path, lines, concrete):
    folder = folder_of(path)
    if folder == "tests":
        return
    if folder not in MAY_INCLUDE:
        yield f"{path}:1: LAYER: {folder} is no folder of ARCHITECTURE.md"
        return
    if len(lines) > MAX_LINES:
        yield f"{path}:{len(lines)}: SIZE: {len(lines)} lines, at most {MAX_LINES}"
    for number, line in enumerate(lines, start=1):
        include = INCLUDE.match(line)
        if not include:
            continue
        target = include[2]
        is_ours = folder_of(target) is not None
        error = ours_error(path, folder, target, concrete) if is_ours else vendor_error(folder, target)
        if error:
            yield f"{path}:{number}: {error}"


def check(root):
    """Every violation under `root`, as FILE:LINE: RULE: text."""
    contents = {}
    for path in sources(root):
        with open(os.path.join(root, path), encoding="utf-8") as file:
            contents[path] = file.read().splitlines()
    concrete = {path for path, lines in contents.items() if path.startswith("core/") and path.endswith(".h") and
                (CONCRETE.match(path) or any(INTERFACE_IMPLEMENTED.search(line) for line in lines))}
    errors = [error for path, lines in contents.items() for error in check_file(path, lines, concrete)]
    return errors, len(contents)


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
    errors, count = check(root)
    for error in errors:
        print(error)
    print(f"layers: {count} files, {len(errors)} violations")
    if count == 0:
        print("layers: no source found", file=sys.stderr)
        return 1
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
