"""Checks what `amc inspect --json` and `amc table --json` promise about their own numbers."""
import json
import sys

kind, path = sys.argv[1:]
data = json.load(open(path))
if kind == "inspect":
    assert sum(data["categories"].values()) == data["max_live_bytes"] <= data["peak_bytes"], data["categories"]
    assert sum(alive["bytes"] for alive in data["alive_at_peak"]) == data["max_live_bytes"]
    assert sum(group["bytes"] for group in data["saved"]) == data["saved_bytes"]
    assert sum(group["flops"] for group in data["recomputed"]) == data["flops"]["recompute"] > 0
    assert all(a["first"] <= data["peak_instruction"] < a["last"] for a in data["alive_at_peak"])
else:
    rows = {row["technique"]: row for row in data["rows"]}
    assert list(rows) == ["none", "selective", "full"]
    assert set(rows["none"]) >= {"technique", "peak_bytes", "categories", "recompute_flops", "alive_at_peak"}
    assert rows["none"]["recompute_flops"] == 0 < rows["selective"]["recompute_flops"] < rows["full"]["recompute_flops"]
    assert rows["none"]["peak_bytes"] >= rows["selective"]["peak_bytes"] >= rows["full"]["peak_bytes"]
    if kind == "strict-table":
        assert rows["none"]["peak_bytes"] > rows["selective"]["peak_bytes"] > rows["full"]["peak_bytes"]
        assert rows["none"]["saved_bytes"] > rows["selective"]["saved_bytes"] > rows["full"]["saved_bytes"] > 0
