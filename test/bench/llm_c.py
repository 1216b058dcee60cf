#!/usr/bin/env python3
"""Step time of AMC against llm.c's CPU program (karpathy/llm.c, train_gpt2.c) on GPT-2, 4 x 64 tokens, side by side.

  git clone https://github.com/karpathy/llm.c DIR && .venv-models/bin/python test/bench/llm_c.py --llm-c DIR

train_gpt2.c is built as it stands, with -O3 -ffast-math -march=native -fopenmp, in a folder of its own. It is given our
exported gpt2-124m in its format and one batch of tokens that it trains on again and again (its loader shuffles; of one
batch there is one order); so is AMC: AdamW with learning rate 1e-4, no weight decay and no clipping, as the program has
it, each position scored by the token behind it, the last of a row by the first of the next. A round is a process of
either; the program is ended after --steps steps. The losses of all steps are compared before any time is printed. Goal:
at most 0.22 of its step time.
"""
import os
import pathlib
import re
import subprocess

import side_by_side as bench

BATCH, SEQUENCE = 4, 64  # what train_gpt2.c has
STEP = re.compile(r"^step (\d+): train loss ([-\d.naif]+) \(took ([\d.]+) ms\)")


def write_checkpoint(onnx_path, path):
    """The exported model as gpt2_124M.bin: 256 integers, then all tensors in fp32, those of layers one behind the other.
    Matrices are [out, in] (the export has Hugging Face's Conv1D, [in, out]); the vocabulary is padded to 128s."""
    import numpy
    import onnx
    from onnx import numpy_helper
    model = onnx.load(onnx_path)
    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    get = lambda name: weights[f"transformer.{name}"].astype(numpy.float32)
    tied = "transformer.wte.weight" if "transformer.wte.weight" in weights else "lm_head.weight"  # one tensor, one name
    wte, wpe = weights[tied].astype(numpy.float32), get("wpe.weight")
    vocabulary, channels = wte.shape
    layers = sum(1 for name in weights if re.fullmatch(r"transformer\.h\.\d+\.ln_1\.weight", name))
    padded = -(-vocabulary // 128) * 128
    header = numpy.zeros(256, dtype=numpy.int32)
    header[:8] = [20240326, 3, wpe.shape[0], vocabulary, layers, 12, channels, padded]
    of_layers = [("ln_1.weight", False), ("ln_1.bias", False), ("attn.c_attn.weight", True), ("attn.c_attn.bias", False),
                 ("attn.c_proj.weight", True), ("attn.c_proj.bias", False), ("ln_2.weight", False), ("ln_2.bias", False),
                 ("mlp.c_fc.weight", True), ("mlp.c_fc.bias", False), ("mlp.c_proj.weight", True), ("mlp.c_proj.bias", False)]
    with open(path, "wb") as file:
        header.tofile(file)
        numpy.concatenate([wte, numpy.zeros((padded - vocabulary, channels), numpy.float32)]).tofile(file)
        wpe.tofile(file)
        for name, transposed in of_layers:
            for layer in range(layers):
                tensor = get(f"h.{layer}.{name}")
                (numpy.ascontiguousarray(tensor.T) if transposed else tensor).tofile(file)
        get("ln_f.weight").tofile(file)
        get("ln_f.bias").tofile(file)
    return vocabulary


def write_tokens(path, tokens):
    import numpy
    header = numpy.zeros(256, dtype=numpy.int32)
    header[:3] = [20240520, 1, len(tokens)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        header.tofile(file)
        tokens.astype(numpy.uint16).tofile(file)


def prepare(arguments, onnx, folder):
    """The program in `folder` with its weights and tokens, and the same tokens for AMC; gives the path of the latter."""
    import numpy
    import safetensors.numpy
    folder.mkdir(parents=True, exist_ok=True)
    source = arguments.llm_c / "train_gpt2.c"
    if not source.exists():
        raise SystemExit(f"{source} is not there; --llm-c names a checkout of github.com/karpathy/llm.c")
    bench.run([arguments.cc, "-O3", "-ffast-math", "-march=native", "-fopenmp", "-DOMP", "-Wno-unused-result", f"-I{arguments.llm_c}",
               source, "-o", folder / "train_gpt2", "-lm"], "the compiler")
    vocabulary = write_checkpoint(onnx, folder / "gpt2_124M.bin")
    count = BATCH * SEQUENCE
    tokens = numpy.random.default_rng(1).integers(0, vocabulary, count + 1)
    write_tokens(folder / "dev/data/tinyshakespeare/tiny_shakespeare_train.bin", tokens)
    write_tokens(folder / "dev/data/tinyshakespeare/tiny_shakespeare_val.bin", tokens)
    repeat = lambda x: numpy.ascontiguousarray(
        numpy.broadcast_to(x.astype(numpy.int64).reshape(1, BATCH, SEQUENCE), (arguments.steps, BATCH, SEQUENCE)))
    data = folder / "batches.safetensors"
    safetensors.numpy.save_file({"input_ids": repeat(tokens[:count]), "labels": repeat(tokens[1:])}, str(data))
    return data


def llm_c_round(arguments, folder):
    environment = dict(os.environ, OMP_NUM_THREADS=str(arguments.threads))
    # Its output is a pipe, which it would fill before it shows a line.
    process = subprocess.Popen(["stdbuf", "-oL", "./train_gpt2"], cwd=folder, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    losses, seconds, said = [], [], []
    for line in process.stdout:
        said.append(line)
        if match := STEP.match(line):
            losses.append(float(match[2]))
            seconds.append(float(match[3]) / 1e3)
            if len(losses) == arguments.steps:
                break
    process.terminate()
    process.wait()
    if len(losses) < arguments.steps:
        raise SystemExit(f"train_gpt2 ended after {len(losses)} steps:\n{''.join(said)}")
    return {"losses": losses, "seconds": seconds}


def main():
    parser = bench.parser(__doc__, steps=4)
    parser.add_argument("--llm-c", type=pathlib.Path, required=True, metavar="DIR", help="a checkout of karpathy/llm.c")
    parser.add_argument("--cc", default="cc")
    arguments = parser.parse_args()
    arguments.llm_c = arguments.llm_c.resolve()
    if not 2 <= arguments.steps <= 10:  # behind the tenth the program evaluates again
        parser.error(f"--steps is {arguments.steps}, should be from 2 to 10")
    onnx = bench.exported(arguments, "gpt2-124m")
    folder = (arguments.cache / "llm.c").resolve()
    data = prepare(arguments, onnx, folder)
    plan = bench.compiled(arguments, onnx, folder / "4x64.amplan", f"{BATCH}x{SEQUENCE}",
                          ["--loss=cross-entropy", "--lr=1e-4", "--weight-decay=0", "--max-grad-norm=0"])
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        theirs.append(llm_c_round(arguments, folder))
        ours.append(bench.amc_round(arguments, plan, data, BATCH * SEQUENCE))
    # llm.c prints six digits behind the point.
    worst = bench.compare_losses("gpt2-124m", ours[0]["losses"], theirs[0]["losses"])
    mine, other = bench.seconds_of(ours), bench.seconds_of(theirs)
    print(f"gpt2-124m, {BATCH} x {SEQUENCE} tokens, {arguments.threads} threads: losses agree to {worst:.1e} "
          f"({ours[0]['losses'][0]:.4f} to {ours[0]['losses'][-1]:.4f})")
    print(f"  amc    {bench.spread(mine)} s a step")
    print(f"  llm.c  {bench.spread(other)} s a step")
    print(f"  ratio  {mine[0] / other[0]:8.3f}, the goal is 0.22")


if __name__ == "__main__":
    main()
