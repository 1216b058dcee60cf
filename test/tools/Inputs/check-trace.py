"""What amrun --profile wrote: check-trace.py FILE RANKS FACTS, the last what amc inspect --json says of the plan. Counts and
nesting are exact; of times it asks that instructions make up a good part of a step, and no more than all of it."""
import json
import sys

trace = json.load(open(sys.argv[1]))
ranks, instructions = int(sys.argv[2]), json.load(open(sys.argv[3]))["instructions"]
events = trace["traceEvents"]
assert trace["displayTimeUnit"] == "ms"
assert {event["ph"] for event in events} == {"X", "M", "C"}

complete = [event for event in events if event["ph"] == "X"]
assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in complete)
assert {event["pid"] for event in events} == set(range(ranks))
steps = trace["otherData"]["steps"]
assert steps == [2, 3], steps
for rank in range(ranks):
    mine = [event for event in complete if event["pid"] == rank]
    calls = [event for event in mine if event["cat"] != "step"]
    assert len(calls) == len(steps) * instructions, (len(calls), instructions)
    assert {event["cat"] for event in calls} <= {"forward", "backward", "recompute", "optimizer"}
    for event in calls:
        assert set(event["args"]) == {"kernel", "node", "phase", "flops", "bytes", "instruction"}
        assert event["args"]["kernel"] == event["name"] and event["args"]["phase"] == event["cat"]
    for step in steps:
        [whole] = [event for event in mine if event["name"] == f"step {step}"]
        end = whole["ts"] + whole["dur"]
        inside = [event for event in calls if event["tid"] == 0 and whole["ts"] <= event["ts"] < end]
        assert inside and all(event["ts"] + event["dur"] <= end + 0.002 for event in inside)
        total = sum(event["dur"] for event in inside)
        assert 0.3 * whole["dur"] <= total <= whole["dur"] + 1, (total, whole["dur"])
        parts = [event["name"] for event in mine if event["cat"] == "step" and whole["ts"] <= event["ts"] < end]
        assert parts == [f"step {step}", "data", "micro-batch 1", "update"], parts
    assert any(event["tid"] == 1 for event in calls) == (ranks > 1), "only ranks communicate"
    live = [event["args"]["bytes"] for event in events if event["ph"] == "C" and event["pid"] == rank]
    assert live and min(live) > 0

# The table is the sum of rank 0's events.
for kernel in trace["otherData"]["kernels"]:
    runs = [event for event in complete if event["pid"] == 0 and event["name"] == kernel["kernel"]
            and (event["tid"] == 1) == kernel["beside"]]
    assert len(runs) == kernel["calls"], kernel
    seconds = sum(event["dur"] for event in runs) / 1e6
    assert abs(seconds - kernel["seconds"]) <= 1e-3 * seconds + 1e-6 * len(runs), (kernel, seconds)
    assert kernel["flops"] == sum(event["args"]["flops"] for event in runs)
    assert kernel["bytes"] == sum(event["args"]["bytes"] for event in runs)
assert all(value > 0 for value in trace["otherData"]["limits"].values())
