"""unread-keys.py DATA WEIGHTS: data of four entries for unread-keys.onnx, and weights for all its initializers, those
that nothing reads included."""
import sys

from tensors import write

write(sys.argv[1], [("x", "F32", [4, 2, 4, 5], "f", [((7 * i) % 11 - 5) / 5 for i in range(160)]),
                    ("labels", "I64", [4, 2, 4], "q", [i % 5 for i in range(32)])])
write(sys.argv[2], [(name, "F32", [5, 5], "f", [((3 * i + shift) % 7 - 3) / 3 for i in range(25)])
                    for shift, name in enumerate(("q1", "k1", "v1", "q2", "k2"))])
