#!/usr/bin/env python3
"""Step time and peak memory of AMC against PyTorch, and against the pure products of the same step, side by side.

  models/make-venv && .venv-models/bin/python test/bench/step_time.py [--models llama-100m gpt2-124m] [--shapes 4x512 1x2048]

Rows of AMC: what --ac keeps for backward, and full with linear cross-entropy. Of PyTorch: eager, torch.compile (the
better of the two counts), eager with torch.utils.checkpoint around each block, and that with the loss in checkpointed
pieces of 512 tokens, which is its counterpart of linear cross-entropy. The step: AdamW on every parameter, gradients
clipped to 1.0, fp32, the same weights and tokens. The pure products are test/bench/products.cpp's, of the plan of `none`.
See side_by_side.py for how rounds are run; memory is a process's peak resident set.
"""
import json
import pathlib
import statistics
import subprocess

import side_by_side as bench

ROWS = {"none": ["--ac=none"], "selective": ["--ac=selective"],
        "selective, all matmuls": ["--ac=selective", "--ac-matmuls=all"], "full": ["--ac=full"],
        "full, linear CE": ["--ac=full", "--loss-impl=linear-cross-entropy"]}
PEERS = {"eager": "pytorch eager", "compile": "torch.compile", "checkpoint": "pytorch, checkpoint",
         "pieces": "pytorch, checkpoint, loss in pieces"}
SAME_MODE = {"none": "eager", "full": "checkpoint", "full, linear CE": "pieces"}
LOSS_PIECE = 512  # tokens


def loss_in_pieces(model, ids, labels):
    import torch.nn.functional as F
    from torch.utils.checkpoint import checkpoint
    hidden = model.base_model(input_ids=ids).last_hidden_state[:, :-1].reshape(-1, model.config.hidden_size)
    wanted = labels[:, 1:].reshape(-1)
    piece = lambda h, y: F.cross_entropy(model.get_output_embeddings()(h), y, reduction="sum")
    losses = [checkpoint(piece, hidden[i:i + LOSS_PIECE], wanted[i:i + LOSS_PIECE], use_reentrant=False)
              for i in range(0, len(wanted), LOSS_PIECE)]
    return sum(losses) / len(wanted)


def peer(arguments):
    import export
    import torch
    torch.set_num_threads(arguments.threads)
    model = export.build(arguments.models[0]).train()
    if arguments.mode in ("checkpoint", "pieces"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    step = torch.compile(model) if arguments.mode == "compile" else model
    whole = lambda ids, labels: bench.causal_loss(step(input_ids=ids).logits, labels)
    pieces = lambda ids, labels: loss_in_pieces(model, ids, labels)
    bench.torch_round(arguments, model, pieces if arguments.mode == "pieces" else whole)


def products_round(arguments, plan):
    return json.loads(bench.run([arguments.bin / "bench-products", plan, "--threads", arguments.threads], "bench-products"))


def measure(arguments, model, shape):
    """{name: rounds} of AMC's rows and of PyTorch's, the rounds of products, and where the time of `none` goes."""
    batch, sequence = map(int, shape.split("x"))
    name = model if sequence <= 1024 else f"{model}@{sequence}"
    onnx = bench.exported(arguments, name)
    batches = bench.random_batches(onnx.parent / f"{shape}.safetensors", 32000, arguments.steps, batch, sequence)
    plans = {row: bench.compiled(arguments, onnx, onnx.parent / f"{shape}-{row.replace(', ', '-').replace(' ', '-')}.amplan",
                                 shape, ROWS[row]) for row in arguments.rows}
    ours, theirs, products = {row: [] for row in plans}, {mode: [] for mode in arguments.peers}, []
    for _ in range(arguments.rounds):
        for mode in theirs:
            theirs[mode].append(bench.peer_round(__file__, ["--models", name, "--threads", str(arguments.threads), "--peer",
                                                            str(batches), "--mode", mode]))
        for row, plan in plans.items():
            ours[row].append(bench.amc_round(arguments, plan, batches, batch * sequence))
        if "none" in plans and not arguments.no_products:
            products.append(products_round(arguments, plans["none"]))
    table = bench.kernel_table(arguments, plans["none"], batches) if "none" in plans else []
    return ours, theirs, products, table


def show(arguments, model, shape, ours, theirs, products, table):
    first = next(iter(theirs.values()), next(iter(ours.values())))[0]["losses"]
    worst = max(bench.compare_losses(f"{model} {shape}, {name}", rounds[0]["losses"], first)
                for name, rounds in [*ours.items(), *theirs.items()])
    print(f"{model}, {shape} tokens, {arguments.threads} threads: losses agree to {worst:.1e}")
    print(f"  {'':36} {'seconds a step':28} {'beside none':>11} {'peak resident':>13} {'arena':>8}")
    none = bench.seconds_of(ours["none"])[0] if "none" in ours else None
    for row, rounds in ours.items():
        seconds = bench.seconds_of(rounds)
        beside = f"{100 * (seconds[0] / none - 1):+.1f} %" if none else ""
        print(f"  {'amc, ' + row:36} {bench.spread(seconds):28} {beside:>11} {bench.memory_of(rounds) / bench.GIB:9.2f} GiB "
              f"{rounds[0]['arena'] / bench.GIB:8.2f}")
    for mode, rounds in theirs.items():
        print(f"  {PEERS[mode]:36} {bench.spread(bench.seconds_of(rounds)):28} {'':>11} "
              f"{bench.memory_of(rounds) / bench.GIB:9.2f} GiB")
    if products:
        pure = [s for r in products for s in r["seconds"]]
        summary = statistics.median(pure), min(pure), max(pure)
        print(f"  {'the products of none alone':36} {bench.spread(summary):28}   {products[0]['flops'] / 1e9:.1f} GFLOP, "
              f"{products[0]['flops'] / summary[0] / 1e9:.1f} GFLOP/s")
        print(f"  step / products: {none / summary[0]:.3f}")
    fastest = min((mode for mode in ("eager", "compile") if mode in theirs), default=None,
                  key=lambda mode: bench.seconds_of(theirs[mode])[0])
    if none and fastest:
        print(f"  none / {PEERS[fastest]}, the better: {none / bench.seconds_of(theirs[fastest])[0]:.3f} of its time")
    for row, mode in SAME_MODE.items():
        if row in ours and mode in theirs:
            print(f"  {row} / {PEERS[mode]}: {bench.memory_of(ours[row]) / bench.memory_of(theirs[mode]):.3f} of its memory, "
                  f"{bench.seconds_of(ours[row])[0] / bench.seconds_of(theirs[mode])[0]:.3f} of its time")
    if table:
        print("  where the time of none goes, its instructions one after the other:")
        for line in table[:10]:
            print("   ", line)


def main():
    parser = bench.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=["llama-100m", "gpt2-124m"])
    parser.add_argument("--shapes", nargs="+", default=["4x512", "1x2048"], metavar="BATCHxSEQUENCE")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--no-products", action="store_true", help="without the pure products")
    parser.add_argument("--peer", help=bench.argparse.SUPPRESS)
    parser.add_argument("--mode", help=bench.argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments)
    if not arguments.no_products and not (arguments.bin / "bench-products").exists():
        build = pathlib.Path(arguments.bin).parent
        subprocess.run(["cmake", "--build", str(build), "--target", "bench-products"], check=True, stdout=subprocess.DEVNULL)
    for model in arguments.models:
        for shape in arguments.shapes:
            show(arguments, model, shape, *measure(arguments, model, shape))


if __name__ == "__main__":
    main()
