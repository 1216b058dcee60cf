#!/usr/bin/env python3
"""Step time and memory of AMC against PyTorch on one GPU, side by side, as a table for the README.

  models/make-venv && .venv-models/bin/python test/bench/cuda_step_time.py --target cuda:sm_90 [--models llama-1b] [--shapes 4x2048]

Rows of AMC: what --ac keeps for backward, and full with linear cross-entropy. Of PyTorch (SDPA, fused AdamW, the same
weights and tokens): eager, torch.compile, and eager with torch.utils.checkpoint around each block. Precision is bf16 on
either side (--precision fp32: fp32 without TF32): AMC's keeps its weights in bf16 with fp32 masters, PyTorch's is autocast
over fp32 weights. The losses are compared before any time is printed, in bf16 within 2 %. Memory: AMC's arena, which is
what was promised; the peak of what PyTorch's allocator has given out, and of what it has taken from the driver.
--device cpu tries the comparison itself on a machine without a GPU: everything runs on the CPU, and no number means much.
"""
import datetime
import subprocess

import side_by_side as bench

ROWS = {"none": ["--ac=none"], "selective": ["--ac=selective"], "full": ["--ac=full"],
        "full, linear CE": ["--ac=full", "--loss-impl=linear-cross-entropy"]}
PEERS = {"eager": "PyTorch eager", "compile": "torch.compile", "checkpoint": "PyTorch, checkpoint"}


def peer(arguments):
    import contextlib
    import export
    import torch
    torch.backends.cuda.matmul.allow_tf32 = False
    model = export.build(arguments.models[0]).train()
    if arguments.mode == "checkpoint":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    step = torch.compile(model) if arguments.mode == "compile" else model
    narrow = arguments.precision == "bf16"

    def loss_of(ids, labels):
        with torch.autocast(arguments.device, torch.bfloat16) if narrow else contextlib.nullcontext():
            logits = step(input_ids=ids).logits
        return bench.causal_loss(logits.float(), labels)

    bench.torch_round(arguments, model, loss_of, arguments.device)


def gpu():
    said = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True)
    return said.stdout.splitlines()[0] if said.returncode == 0 and said.stdout else "no GPU"


def measure(arguments, model, shape):
    batch, sequence = map(int, shape.split("x"))
    name = model if sequence <= 1024 else f"{model}@{sequence}"
    onnx = bench.exported(arguments, name)
    batches = bench.random_batches(onnx.parent / f"{shape}.safetensors", arguments.vocabulary, arguments.steps, batch, sequence)
    common = [f"--target={arguments.target}", f"--precision={arguments.precision}"]
    plans = {row: bench.compiled(arguments, onnx, onnx.parent / f"cuda-{shape}-{row.replace(', ', '-').replace(' ', '-')}.amplan",
                                 shape, ROWS[row] + common) for row in arguments.rows}
    ours, theirs = {row: [] for row in plans}, {mode: [] for mode in arguments.peers}
    for _ in range(arguments.rounds):
        for mode in theirs:
            theirs[mode].append(bench.peer_round(__file__, ["--models", name, "--precision", arguments.precision, "--device",
                                                            arguments.device, "--peer", str(batches), "--mode", mode]))
        for row, plan in plans.items():
            ours[row].append(bench.amc_round(arguments, plan, batches, batch * sequence))
    return ours, theirs


def show(arguments, model, shape, ours, theirs):
    first = next(iter(theirs.values()), next(iter(ours.values())))[0]["losses"]
    tolerance = 2e-2 if arguments.precision == "bf16" else 1e-4
    worst = max(bench.compare_losses(f"{model} {shape}, {name}", rounds[0]["losses"], first, tolerance)
                for name, rounds in [*ours.items(), *theirs.items()])
    device = gpu() if arguments.device == "cuda" else "on the CPU: figures mean nothing"
    print(f"{model}, {shape} tokens, {arguments.precision}, {device}, {datetime.date.today()}; losses agree to {worst:.1e}\n")
    print("| | seconds a step | memory |")
    print("| --- | --- | --- |")
    for row, rounds in ours.items():
        print(f"| AMC, `{row}` | {bench.spread(bench.seconds_of(rounds))} | arena {rounds[0]['arena'] / bench.GIB:.2f} GiB, as promised |")
    for mode, rounds in theirs.items():
        memory = (f"allocated {rounds[0]['allocated'] / bench.GIB:.2f} GiB, reserved {rounds[0]['reserved'] / bench.GIB:.2f} GiB"
                  if "allocated" in rounds[0] else "")
        print(f"| {PEERS[mode]} | {bench.spread(bench.seconds_of(rounds))} | {memory} |")
    print()


def main():
    parser = bench.parser(__doc__, steps=12)
    parser.add_argument("--models", nargs="+", default=["llama-1b"])
    parser.add_argument("--shapes", nargs="+", default=["4x2048"], metavar="BATCHxSEQUENCE")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--target", default="cuda:sm_90")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--vocabulary", type=int, default=32000, help="tokens are drawn below it")
    parser.add_argument("--peer", help=bench.argparse.SUPPRESS)
    parser.add_argument("--mode", help=bench.argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        arguments.target = "cpu"
    if arguments.peer:
        return peer(arguments)
    for model in arguments.models:
        for shape in arguments.shapes:
            show(arguments, model, shape, *measure(arguments, model, shape))


if __name__ == "__main__":
    main()
