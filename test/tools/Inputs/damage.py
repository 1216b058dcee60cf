"""damage.py PLAN DIR DATA: cuts the plan at many lengths, flips bits at many places; amrun has to refuse each with exit
code 1 and a message."""
import subprocess
import sys

plan, directory, data = sys.argv[1:]
good = open(plan, "rb").read()
variants = {f"cut at {n}": good[:n] for n in [0, 1, 7, 8, 11, 12, 20, 35, 36, 37, len(good) // 2, len(good) - 1]}
variants["one byte too many"] = good + b"\0"
for i in range(48):
    at = i * len(good) // 48
    damaged = bytearray(good)
    damaged[at] ^= 1 << (i % 8)
    variants[f"bit {i % 8} of byte {at}"] = bytes(damaged)
bad = 0
for name, content in variants.items():
    path = directory + "/damaged.amplan"
    open(path, "wb").write(content)
    run = subprocess.run(["amrun", path, "--data", data, "--steps", "1"], capture_output=True, text=True)
    if run.returncode != 1 or "damaged.amplan" not in run.stderr or "error" not in run.stderr:
        print(f"{name}: exit code {run.returncode}: {run.stderr[-300:]}")
        bad += 1
sys.exit(1 if bad else 0)
