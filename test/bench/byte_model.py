#!/usr/bin/env python3
"""Tokens a second on the quickstart's model, where overheads rule, against PyTorch eager, side by side.

  models/make-venv && .venv-models/bin/python test/bench/byte_model.py [--shapes 8x256 1x256]

models/byte-llama.onnx (6 M parameters, one token a byte) with PyTorch's weights, random bytes, AdamW on every parameter,
gradients clipped to 1.0, fp32. The losses of all steps are compared before any time is printed. Goal: at most half of
PyTorch's step time. See side_by_side.py for how rounds are run.
"""

import side_by_side as bench

MODEL = "byte-llama"


def peer(arguments):
    import export
    import torch
    torch.set_num_threads(arguments.threads)
    model = export.build(MODEL).train()
    bench.torch_round(arguments, model, lambda ids, labels: bench.causal_loss(model(input_ids=ids).logits, labels))


def weights(path):
    """PyTorch's, under the names of the ONNX file."""
    import export
    import safetensors.torch
    model = export.build(MODEL)
    state = dict(model.state_dict(), **{"model.rotary_emb.inv_freq": model.model.rotary_emb.inv_freq})
    safetensors.torch.save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, str(path))
    return path


def measure(arguments, shape):
    batch, sequence = map(int, shape.split("x"))
    folder = arguments.cache / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    data = bench.random_batches(folder / f"{shape}.safetensors", 256, arguments.steps, batch, sequence)
    initial = weights(folder / "initial.safetensors")
    plan = bench.compiled(arguments, bench.ROOT / "models/byte-llama.onnx", folder / f"{shape}.amplan", shape)
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        theirs.append(bench.peer_round(__file__, ["--threads", str(arguments.threads), "--peer", str(data)]))
        ours.append(bench.amc_round(arguments, plan, data, batch * sequence, ["--init", initial]))
    worst = bench.compare_losses(f"{MODEL} {shape}", ours[0]["losses"], theirs[0]["losses"])
    mine, other = bench.seconds_of(ours), bench.seconds_of(theirs)
    print(f"{MODEL}, {shape} tokens, {arguments.threads} threads: losses agree to {worst:.1e}")
    for name, seconds, rounds in (("amc", mine, ours), ("pytorch eager", other, theirs)):
        print(f"  {name:14} {bench.spread(seconds)} s a step, {batch * sequence / seconds[0]:9.0f} tokens a second, "
              f"peak resident {bench.memory_of(rounds) / bench.GIB:.2f} GiB")
    print(f"  ratio          {mine[0] / other[0]:8.3f} of its time, the goal is 0.5")
    print("  where amc's time goes, its instructions one after the other:")
    for line in bench.kernel_table(arguments, plan, data, ["--init", initial])[:10]:
        print("   ", line)


def main():
    parser = bench.parser(__doc__, steps=10)
    parser.add_argument("--shapes", nargs="+", default=["8x256", "1x256"], metavar="BATCHxSEQUENCE")
    parser.add_argument("--peer", help=bench.argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        return peer(arguments)
    for shape in arguments.shapes:
        measure(arguments, shape)


if __name__ == "__main__":
    main()
