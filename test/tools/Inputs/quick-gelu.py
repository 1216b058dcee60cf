"""quick-gelu.py DATA: three entries of data for quick-gelu.onnx."""
import sys

from tensors import write

write(sys.argv[1], [("x", "F32", [3, 4, 128, 8], "f", [((7 * i) % 23 - 11) / 7 for i in range(3 * 4096)]),
                    ("labels", "I64", [3, 4, 128], "q", [(5 * i) % 8 for i in range(3 * 512)])])
