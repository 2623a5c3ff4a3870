#!/usr/bin/env python3
"""cuda_resources.py [ARCHITECTURE…]: compiles the CUDA sources for sm_75 to sm_90 and reads the compiler's report.

Exit code 1 when a source does not compile for a target, or a kernel needs more than sm_75 has: 255 registers a thread,
48 KiB of static shared memory, no registers spilled beyond SPILL_BYTES. product_tiles.cu is for sm_90 alone: on others its
kernels are empty.
"""

import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGETS = ["75", "80", "86", "89", "90a"]
MAX_REGISTERS, MAX_STATIC_SHARED, SPILL_BYTES = 255, 48 << 10, 256


def find_nvcc():
    packaged = glob.glob(os.path.join(ROOT, ".venv-cuda/lib/python3*/site-packages/nvidia/cu*/bin/nvcc"))
    return packaged[0] if packaged else shutil.which("nvcc")


def compile_source(nvcc, source, target):
    """Problems found, and the number of kernels."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        done = subprocess.run([nvcc, "-std=c++17", "-O3", f"-I{ROOT}", "-fmad=false", "--expt-relaxed-constexpr", "-cubin",
                               "-gencode", f"arch=compute_{target},code=sm_{target}", "-Xptxas", "-v", "-o", cubin.name, source],
                              capture_output=True, text=True, check=False)
    report = done.stdout + done.stderr
    where = f"{os.path.basename(source)}, sm_{target}"
    if done.returncode != 0:
        return [f"{where}: {report[-500:]}"], 0
    problems = [f"{where}: {line.strip()}" for line in report.splitlines() if "Potential Performance Loss" in line]
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", report)]
    shared = [int(n) for n in re.findall(r"(\d+) bytes smem", report)]
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill stores", report)]
    for name, values, most in (("registers", registers, MAX_REGISTERS), ("bytes of static shared memory", shared, MAX_STATIC_SHARED),
                               ("bytes spilled", spills, SPILL_BYTES)):
        if values and max(values) > most:
            problems.append(f"{where}: a kernel needs {max(values)} {name}, the limit is {most}")
    return problems, len(registers)


def main():
    nvcc = find_nvcc()
    if nvcc is None:
        sys.exit("no nvcc; docker/setup/install-cuda.sh brings it")
    sources = sorted(glob.glob(os.path.join(ROOT, "core/model/cuda/*.cu")))
    jobs = [(nvcc, source, target) for target in sys.argv[1:] or TARGETS for source in sources]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: compile_source(*job), jobs))
    problems = [problem for found, _ in results for problem in found]
    for problem in problems:
        print(problem)
    print(f"{sum(count for _, count in results)} kernels of {len(sources)} sources for "
          f"{', '.join('sm_' + t for t in sys.argv[1:] or TARGETS)}: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
