"""The line of verify-cache on tenants: nothing reused and nothing told by timing across them, and hard quotas."""

import json
import os
import re
import subprocess
import tempfile

from report import QUICK, check, run, show
from server_process import BIN, SMOLLM2, Server

AUC_BOUND = 0.55
CONTROL_AUC = 0.9  # within one tenant: the measure can tell
HOST_QUOTA = 48 << 20
DISK_QUOTA = 32 << 20
TENANTS = ("alice", "bob")


def settings(folder):
    """Two tenants with a token each; alice has quotas."""
    tokens = []
    for tenant in TENANTS:
        path = os.path.join(folder, tenant)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"token-of-{tenant}-{os.urandom(16).hex()}\n")
        tokens.append(f"{{file: {path}, tenant: {tenant}}}")
    return [f"model.path={SMOLLM2}", "model.thread_count=2", f"auth.tokens=[{', '.join(tokens)}]",
            f"tenants=[{{name: alice, max_host_bytes: {HOST_QUOTA}, max_disk_bytes: {DISK_QUOTA}}}, {{name: bob}}]"]


def bench(server, *arguments):
    code, output, _ = run([os.path.join(BIN, "tenant_bench"), server.address, *map(str, arguments)])
    if code != 0:
        raise RuntimeError(f"tenant_bench {' '.join(map(str, arguments))}: {output.strip()[-300:]}")
    return json.loads(output.splitlines()[-1])


def attack(server, name, victim, attacker, trials):
    got = bench(server, "attack", victim, attacker, trials)
    figure = (f"{got['auc']:.3f} over {got['trials']} trials, p50 {got['cached_p50_ms']:.1f} ms where the victim had sent it, "
              f"{got['not_cached_p50_ms']:.1f} where not")
    show(f"{name}: accuracy of a cross-validated threshold", f"{got['cross_validated_accuracy']:.3f}")
    return got, figure


def held(server, tier):
    text = server.http("/metrics")[1]
    found = re.search(rf'^reprise_namespace_bytes{{namespace="alice",tier="{tier}"}} (\S+)$', text, re.M)
    return float(found.group(1)) if found else 0.0


def flood(server, token, requests):
    """The most bytes that alice held in memory and on disk while she sent more than her quotas hold."""
    most = {"host": 0.0, "disk": 0.0}
    with subprocess.Popen([os.path.join(BIN, "tenant_bench"), server.address, "flood", token, str(requests), "8"],
                          stdout=subprocess.PIPE, text=True) as load:
        while load.poll() is None:
            for tier in most:
                most[tier] = max(most[tier], held(server, tier))
        got = json.loads(load.stdout.read().splitlines()[-1])
    return most, got


def accepts(server, version):
    """Whether a handshake of this version of TLS ends with a cipher."""
    done = subprocess.run(["openssl", "s_client", "-connect", server.address, "-alpn", "h2", f"-{version}"], input="",
                          capture_output=True, text=True, errors="replace", timeout=60, check=False)
    return "Cipher is (NONE)" not in done.stdout and "Cipher is" in done.stdout


def tls_versions(work):
    """gRPC reads the least version once in a process, so only whole servers can show it."""
    key, certificate = os.path.join(work, "server.key"), os.path.join(work, "server.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-keyout", key, "-out", certificate, "-subj", "/CN=localhost"], check=True, capture_output=True)
    for least, wanted in (("1_2", (True, True)), ("1_3", (False, True))):
        with Server(os.path.join(work, "tls"), f"model.path={SMOLLM2}", "cache.similarity.enabled=false",
                    f"listen.tls_min_version={least}", f"listen.inference_tls.certificate_file={certificate}",
                    f"listen.inference_tls.key_file={key}") as server:
            got = (accepts(server, "tls1_2"), accepts(server, "tls1_3"))
        check(f"TLS 1.2 and 1.3 with a least version of {least}", got, wanted, got == wanted)


def line_8_tenants():
    trials = 500 if QUICK else 2000
    with tempfile.TemporaryDirectory() as work:
        tls_versions(work)
        with Server(os.path.join(work, "cache"), *settings(work)) as server:
            alice, bob = (os.path.join(work, tenant) for tenant in TENANTS)
            control, figure = attack(server, "same tenant", bob, bob, trials // 8)
            check("the attack within one tenant: AUC", figure, f">= {CONTROL_AUC}", control["auc"] >= CONTROL_AUC)
            across, figure = attack(server, "across tenants", alice, bob, trials)
            check("two tenants, same prompts: tokens reused across", across["reused_tokens"], "0", across["reused_tokens"] == 0)
            told = max(across["auc"], 1 - across["auc"])  # one that is always wrong tells as much
            check("timing classifier across tenants: AUC, or 1 - AUC", figure, f"<= {AUC_BOUND}", told <= AUC_BOUND)
            block = int(server.metric("reprise_host_block_bytes"))
            most, got = flood(server, alice, 100 if QUICK else 400)
            check("requests of a tenant over its quotas that failed", got["failed"], "0", got["failed"] == 0)
            for tier, quota in (("host", HOST_QUOTA), ("disk", DISK_QUOTA)):
                check(f"most bytes that it held, {tier}", f"{most[tier]:.0f} of {quota}, a block is {block}",
                      "<= quota + a block, > half of it", quota / 2 < most[tier] <= quota + block)
