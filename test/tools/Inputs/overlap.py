"""overlap.py FOLDER: what `amc inspect --json` says of off, auto and prefetch there."""
import json
import os
import sys

facts = {}
for name in ("off", "auto", "prefetch"):
    with open(os.path.join(sys.argv[1], name + ".json")) as file:
        facts[name] = json.load(file)
ranks = {name: fact["ranks"]["step"] for name, fact in facts.items()}
assert facts["auto"]["peak_bytes"] <= facts["off"]["peak_bytes"], facts
assert facts["prefetch"]["peak_bytes"] >= facts["off"]["peak_bytes"], facts
assert ranks["off"]["async_collectives"] == 0 < ranks["auto"]["async_collectives"], ranks
assert ranks["auto"]["async_collectives"] <= ranks["prefetch"]["async_collectives"], ranks
for name, fact in ranks.items():
    print(name, facts[name]["peak_bytes"], fact["async_collectives"], fact["planned_seconds"], fact["exposed_seconds"])
    assert fact["overlapped_seconds"] <= fact["planned_seconds"] * (1 + 1e-9), fact
    assert fact["planned_seconds"] <= fact["serial_seconds"] * (1 + 1e-9), fact
assert ranks["prefetch"]["exposed_seconds"] <= ranks["off"]["exposed_seconds"], ranks
assert ranks["auto"]["exposed_seconds"] <= ranks["off"]["exposed_seconds"], ranks
