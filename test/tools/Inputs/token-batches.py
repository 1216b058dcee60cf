"""token-batches.py FILE BATCHES BATCH SEQUENCE VOCABULARY: random `input_ids` and equal `labels`, as safetensors."""
import json
import random
import struct
import sys

path, batches, batch, sequence, vocabulary = sys.argv[1], *map(int, sys.argv[2:])
shape = [batches, batch, sequence]
count = batches * batch * sequence
numbers = random.Random(1)
data = struct.pack(f"<{count}q", *(numbers.randrange(vocabulary) for _ in range(count)))
header = {name: {"dtype": "I64", "shape": shape, "data_offsets": [0 if name == "input_ids" else len(data),
                                                                 len(data) * (1 if name == "input_ids" else 2)]}
          for name in ("input_ids", "labels")}
text = json.dumps(header).encode()
with open(path, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + data + data)
