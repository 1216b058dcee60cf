#!/usr/bin/env python3
"""Step time and memory as the sequence grows at a constant number of tokens: Llama of 100 M parameters, fp32.

  models/make-venv && .venv-models/bin/python test/bench/sequence.py [--tokens 8192] [--lengths 512 1024 2048 4096 8192]

A longer sequence has more of attention's products and of nothing else, so a step should take what the shortest takes and
what those take; and memory, with attention's scores never in it, should stay, but for terms that are named: tables of
rotary positions and scratch. Lengths take turns, a process each (side_by_side.py); seconds of attention and of the rest
are `amrun --profile`'s. First of all losses are compared: those of the shortest length with PyTorch's, step by step, and
the first of every other length with the shortest's, as near as random tokens allow.
"""
import json
import resource
import statistics

import side_by_side as bench

MODEL = "llama-100m"


def peer(arguments):
    """The losses of PyTorch; runs in a process of its own."""
    import export
    import safetensors.torch
    import torch
    import torch.nn.functional as F
    torch.set_num_threads(arguments.threads)
    model = export.build(arguments.model).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    batches = safetensors.torch.load_file(arguments.peer)
    losses = []
    for ids, labels in zip(batches["input_ids"], batches["labels"]):
        logits = model(input_ids=ids).logits
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))
        losses.append(loss.item())
        del logits
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(json.dumps({"losses": losses, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def categories(arguments, plan):
    return json.loads(bench.run([arguments.bin / "amc", "inspect", plan, "--json"], "amc inspect"))


def main():
    parser = bench.parser(__doc__, steps=2, rounds=2)
    parser.add_argument("--tokens", type=int, default=8192, help="of a step, whatever the length")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--ac", default="full")
    parser.add_argument("--peer", help=bench.argparse.SUPPRESS)
    parser.add_argument("--model", help=bench.argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments)
    lengths = sorted(length for length in arguments.lengths if arguments.tokens % length == 0)
    name = f"{MODEL}@{max(1024, lengths[-1])}"
    onnx = bench.exported(arguments, name)
    plans, data = {}, {}
    for length in lengths:
        batch = arguments.tokens // length
        data[length] = bench.random_batches(onnx.parent / f"{batch}x{length}.safetensors", 32000, arguments.steps, batch, length)
        plans[length] = bench.compiled(arguments, onnx, onnx.parent / f"sequence-{batch}x{length}.amplan", f"{batch}x{length}",
                                       [f"--ac={arguments.ac}", "--loss-impl=linear-cross-entropy"])
    theirs = bench.peer_round(__file__, ["--threads", str(arguments.threads), "--model", name, "--peer", str(data[lengths[0]])])
    rounds = {length: [] for length in lengths}
    for _ in range(arguments.rounds):
        for length in lengths:
            rounds[length].append(bench.amc_round(arguments, plans[length], data[length], arguments.tokens, profiled=True))
    worst = bench.compare_losses(f"{MODEL}, length {lengths[0]}", rounds[lengths[0]][0]["losses"], theirs["losses"])
    print(f"{MODEL}, {arguments.tokens} tokens a step, {arguments.threads} threads, ac {arguments.ac}, linear cross-entropy: "
          f"losses of length {lengths[0]} agree with PyTorch's to {worst:.1e}")
    for length in lengths[1:]:  # random tokens: the loss of an untrained model does not know the length
        bench.compare_losses(f"length {length}, its first loss", rounds[length][0]["losses"][:1],
                             rounds[lengths[0]][0]["losses"][:1], tolerance=0.01)
    print(f"  {'length':>6} {'seconds a step':26} {'attention':>9} {'the rest':>9} {'beside first':>12} {'GFLOP/s':>8} "
          f"{'arena MiB':>10} {'activations':>11} {'workspace':>9} {'constants':>9}")
    first = None
    for length in lengths:
        attention, rest, rate = [], [], []
        for one in rounds[length]:
            profile = one["profile"]
            steps = len(profile["steps"])
            mine = [kernel for kernel in profile["kernels"] if kernel["kernel"].startswith("attention")]
            seconds = sum(kernel["seconds"] for kernel in mine)
            attention.append(seconds / steps)
            rest.append((profile["seconds"] - seconds) / steps)
            rate.append(sum(kernel["flops"] for kernel in mine) / seconds / 1e9)
        median = statistics.median(rest)
        first = first or median
        facts = categories(arguments, plans[length])
        size = lambda category: facts["categories"][category] / 2**20
        print(f"  {length:>6} {bench.spread(bench.seconds_of(rounds[length])):26} {statistics.median(attention):9.3f} {median:9.3f} "
              f"{100 * (median / first - 1):+10.1f} % {statistics.median(rate):8.1f} {facts['peak_bytes'] / 2**20:10.1f} "
              f"{size('activations'):11.1f} {size('workspace'):9.1f} {size('constants'):9.1f}")


if __name__ == "__main__":
    main()
