"""compare-logs.py A B TOLERANCE: whether the losses and gradient norms of two runs (--log-json) agree, relatively."""
import json
import sys

a, b = ([json.loads(line) for line in open(path)] for path in sys.argv[1:3])
assert len(a) == len(b) > 0, (len(a), len(b))
for x, y in zip(a, b):
    for key in ("loss", "grad_norm"):
        difference = abs(x[key] - y[key]) / abs(x[key])
        if not difference <= float(sys.argv[3]):
            sys.exit(f"step {x['step']}: {key} {x[key]} and {y[key]}")
