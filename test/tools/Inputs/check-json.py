"""Checks what `amc inspect --json` and `amc table --json` promise about their own numbers."""
import json
import sys

kind, *paths = sys.argv[1:]
data = json.load(open(paths[0]))


def adds_up(plan):
    assert sum(plan["categories"].values()) == plan["max_live_bytes"] <= plan["peak_bytes"], plan["categories"]
    assert plan["max_live_bytes"] + plan["fragmentation_bytes"] == plan["peak_bytes"]
    alive = plan["alive_at_peak"]
    assert sum(a["bytes"] for a in alive) == plan["max_live_bytes"]
    assert all(a["first"] <= plan["peak_instruction"] < a["last"] for a in alive)
    for category, amount in plan["categories"].items():
        assert sum(a["bytes"] for a in alive if a["category"] == category) == amount, category
    assert all(a["why"] and a["name"] and (a["shape"] or a["role"] == "workspace") for a in alive), alive
    assert set(plan["modelled_time"]) == {"cpu", "cuda:sm_90"}


if kind == "inspect":
    adds_up(data)
    assert sum(group["bytes"] for group in data["saved"]) == data["saved_bytes"]
    assert sum(group["flops"] for group in data["recomputed"]) == data["flops"]["recompute"] > 0
    assert data["modelled_time"]["cpu"]["overhead"] > 0
elif kind == "same-peak":
    plan = json.load(open(paths[1]))
    row = next(row for row in data["rows"] if row["technique"] == "full")
    assert row["flags"] == "--ac=full", row["flags"]
    assert row["peak_bytes"] == plan["peak_bytes"] and row["alive_at_peak"] == plan["alive_at_peak"]
elif kind == "seed-table":
    # Llama-3.2-1B, 8 x 2048 tokens a rank, bf16, AdamW, 8 ranks. In GiB: what this table is to stay below; the guide that
    # it comes from publishes 53.03, 47.59, 33.06 and 7.30.
    goals = {"one rank": 30.5, "fsdp2, dp_shard 8": 25, "fsdp2, dp_shard 8 + full": 7.5,
             "fsdp2, dp_shard 8 + full + linear CE": 3.7, "fsdp2, dp_shard 8 + full + linear CE + tiled MLP": 3.0}
    rows = {row["technique"]: row for row in data["rows"]}
    for technique, goal in goals.items():
        adds_up(rows[technique])
        assert rows[technique]["peak_bytes"] <= goal * 2**30, (technique, rows[technique]["peak_bytes"] / 2**30)
    alone, spread = rows["one rank"], rows["fsdp2, dp_shard 8"]
    assert alone["collective_bytes"] == 0 < spread["collective_bytes"]
    for category in ("parameters", "optimizer_state"):
        assert spread["categories"][category] <= alone["categories"][category] / 8 * 1.001, category
elif kind == "zero-table":
    # What a level spreads over the 4 ranks shrinks to about a quarter (rows may be uneven, and norms stay whole).
    rows = {row["technique"]: row for row in data["rows"]}
    levels = [rows[f"megatron_fsdp, ZeRO {zero}, dp_shard 4"] for zero in range(4)]
    for row in rows.values():
        assert "errors" not in row, row
        adds_up(row)
    states = [row["categories"]["optimizer_state"] for row in levels]
    parameters = [row["categories"]["parameters"] for row in levels]
    peaks = [row["peak_bytes"] for row in levels]
    assert states[0] == rows["one rank"]["categories"]["optimizer_state"], states
    assert max(states[1:3]) < states[0], states
    assert parameters[0] == parameters[1] == parameters[2] > 3 * parameters[3], parameters
    assert peaks[0] > peaks[1] >= peaks[2] > peaks[3], peaks
else:
    rows = {row["technique"]: row for row in data["rows"]}
    assert list(rows)[:3] == ["baseline", "selective", "full"], list(rows)
    for row in rows.values():
        if "errors" not in row:
            adds_up(row)
    assert rows["baseline"]["recompute_flops"] == 0 < rows["selective"]["recompute_flops"]
    assert rows["selective"]["recompute_flops"] < rows["full"]["recompute_flops"]
    # On 2 x 48 tokens activations are too small to put the peaks in order.
    assert rows["full"]["peak_bytes"] < 1.01 * rows["baseline"]["peak_bytes"]
    if kind == "strict-table":
        assert rows["baseline"]["peak_bytes"] > rows["selective"]["peak_bytes"] > rows["full"]["peak_bytes"]
        assert rows["baseline"]["saved_bytes"] > rows["selective"]["saved_bytes"] > rows["full"]["saved_bytes"] > 0
        assert rows["full + tiled MLP"]["peak_bytes"] < rows["full"]["peak_bytes"]
        budget = rows["budget 24.00 MiB + linear CE"]
        assert budget["peak_bytes"] <= 24 << 20, budget["peak_bytes"]
        assert rows["budget 1.00 GiB + linear CE"]["recompute_flops"] == 0
