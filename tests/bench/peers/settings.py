"""Which peers are compared, in which precision, and the settings tried for each. The first setting of a list is the
best one known; QUICK=1 tries only that one. A full run tries all and keeps, for each figure, the fastest."""

LLAMA = ["fa=1 ub=1024", "fa=0 ub=1024", "fa=1 ub=1024 lm=none", ""]
CTRANSLATE2 = ["", "mkl=1", "mkl=1 packed=1"]
TRANSFORMERS = ["attention=eager cache=dynamic", "attention=sdpa cache=dynamic", "attention=sdpa cache=static"]
PLAIN = ["linear=plain attention=products", "linear=plain attention=fused"]
PREPACKED = ["linear=prepacked attention=products", "linear=prepacked attention=fused"]
INT8 = ["linear=dynamic attention=products", "linear=dynamic engine=onednn attention=products",
        "linear=weight attention=products"]

# Peer -> (runner beside this file, {dtype: settings}).
PEERS = {
    "llama.cpp": ("run_llama.py", {"fp32": LLAMA, "bf16": LLAMA, "int8": LLAMA, "q4_1": LLAMA}),
    "ctranslate2": ("run_ctranslate2.py", {"fp32": CTRANSLATE2, "int8": CTRANSLATE2}),
    "transformers": ("run_transformers.py", {"fp32": TRANSFORMERS, "bf16": TRANSFORMERS}),
    "torch": ("run_torch.py", {"fp32": PLAIN, "bf16": PLAIN, "int8": INT8}),
    "torch prepacked": ("run_torch.py", {"fp32": PREPACKED, "bf16": PREPACKED}),
}

# Likewise, for the time to first token.
LLAMA_SERVER = ["-fa on -ub 1024", "-fa off -ub 1024", ""]
SERVERS = {"llama-server": ("run_llama_server.py", {"fp32": LLAMA_SERVER, "bf16": LLAMA_SERVER, "int8": LLAMA_SERVER})}

# What engine_bench reads for a dtype: a form of models.path().
OURS = {"fp32": "hf", "bf16": "hf", "int8": "hf", "q4_1": "q4_1"}

# Rows as MODEL/DTYPE/THREADS. Those of acceptance and SmolLM2 as shipped.
ROWS = [f"{model}/{dtype}/{threads}" for model in ("dialogpt", "smollm2") for dtype in ("fp32", "bf16", "int8")
        for threads in (1, 2)] + ["smollm2/q4_1/1", "smollm2/q4_1/2"]
QUICK_ROWS = ["smollm2/bf16/2", "smollm2/int8/2"]
FIRST_TOKEN_ROWS = ["dialogpt/bf16/1", "dialogpt/bf16/2"]
