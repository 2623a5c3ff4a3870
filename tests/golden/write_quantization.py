"""Writes a GGUF file with one tensor of every storage type and its values by the gguf package.

tests/golden/quantization/types.gguf and NAME.bin (float32 [rows, columns]).
"""

import os

import gguf
import numpy
from gguf import GGMLQuantizationType as Type

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "quantization")
ROWS, COLUMNS = 3, 512
TYPES = [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q4_K, Type.Q5_K,
         Type.Q6_K]
# Byte offsets of the fp16 scales in a block of the types that the package only reads.
SCALES = {Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,)}


def random_blocks(kind, random):
    """Blocks of random bytes whose fp16 scales are finite."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (ROWS * COLUMNS // elements, size), dtype=numpy.uint8)
    for offset in SCALES[kind]:
        scale = random.normal(0, 0.1, len(blocks)).astype("<f2")
        blocks[:, offset:offset + 2] = scale.view(numpy.uint8).reshape(-1, 2)
    return blocks.reshape(ROWS, -1)


def main():
    random = numpy.random.default_rng(11)
    writer = gguf.GGUFWriter(os.path.join(HERE, "types.gguf"), "llama")
    for kind in TYPES:
        values = random.normal(0, 1, (ROWS, COLUMNS)).astype(numpy.float32)
        stored = random_blocks(kind, random) if kind in SCALES else gguf.quants.quantize(values, kind)
        writer.add_tensor(kind.name, stored, raw_dtype=kind)
        gguf.quants.dequantize(stored, kind).astype("<f4").tofile(os.path.join(HERE, kind.name + ".bin"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
