#!/usr/bin/env python3
"""Makes fixtures like those in test/fixtures: small Hugging Face models with PyTorch's answers beside them, for
test/parity. test/fixtures/README.md says what each file holds. Environment: models/make-venv.

  make_fixtures.py DIR [NAME…]      all eleven without names; then: build/bin/amc-parity build/bin /tmp/parity DIR/llama

The committed fixtures were made elsewhere, with these models and batches but other weights, and another PyTorch rounds
differently: expect the same kinds of files, not the same bytes. With onnxruntime installed, its forward pass is
compared too (meta.json: onnxruntime_max_abs_diff, null without it).
"""
import argparse
import collections
import json
import os

import numpy
import onnx
import torch
import transformers
from onnx import numpy_helper
from safetensors.torch import save_file

BATCHES, BATCH, SEQUENCE, VOCABULARY = 11, 2, 48, 512
LEARNING_RATE, BETAS, EPSILON, DECAY, CLIP, IGNORED = 1e-3, (0.9, 0.999), 1e-8, 0.01, 1.0, -100


def decoder(config, model, layers=3, **more):
    return model(config(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=160, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, use_cache=False, pad_token_id=0, **more))


def llama(tied=True):
    return decoder(transformers.LlamaConfig, transformers.LlamaForCausalLM, tie_word_embeddings=tied)


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=256, n_embd=64, n_layer=3, n_head=4, resid_pdrop=0, embd_pdrop=0,
        attn_pdrop=0, use_cache=False, bos_token_id=1, eos_token_id=2))


def gemma3():
    return decoder(transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM, layers=6, head_dim=16,
                   query_pre_attn_scalar=16, sliding_window=16)


def gemma3n():
    return decoder(
        transformers.Gemma3nTextConfig, transformers.Gemma3nForCausalLM, layers=4, head_dim=16, sliding_window=16,
        layer_types=["sliding_attention", "full_attention"] * 2, num_kv_shared_layers=2, altup_num_inputs=2,
        laurel_rank=8, hidden_size_per_layer_input=16, vocab_size_per_layer_input=VOCABULARY,
        activation_sparsity_pattern=[0.0] * 4)


def mixtral():
    model = decoder(transformers.MixtralConfig, transformers.MixtralForCausalLM, num_local_experts=4,
                    num_experts_per_tok=2, tie_word_embeddings=False)
    model.config._experts_implementation = "batched_mm"  # the form that torch.export can trace
    return model


def bert(model, **more):
    return model(transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=160,
        max_position_embeddings=256, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **more))


Fixture = collections.namedtuple("Fixture", "build loss masked opset dynamic matrices_only", defaults=(
    "causal-lm", False, 18, False, False))
FIXTURES = {
    "llama": Fixture(lambda: llama(tied=False)),
    "llama-tied-ts17": Fixture(llama, masked=True, opset=17, dynamic=True),
    "llama-opset23": Fixture(llama, opset=23),
    "llama-padded": Fixture(llama, masked=True),
    "gpt2": Fixture(gpt2),
    "qwen3": Fixture(lambda: decoder(transformers.Qwen3Config, transformers.Qwen3ForCausalLM, head_dim=16,
                                     tie_word_embeddings=True)),
    "gemma3": Fixture(gemma3, matrices_only=True),
    "mixtral": Fixture(mixtral),
    "gemma3n": Fixture(gemma3n),
    "bert-mlm": Fixture(lambda: bert(transformers.BertForMaskedLM), loss="mlm", masked=True),
    "bert-classify": Fixture(lambda: bert(transformers.BertForSequenceClassification, num_labels=5), loss="classify",
                             masked=True),
}


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, input_ids, attention_mask=None):
        return self.m(input_ids=input_ids, attention_mask=attention_mask).logits


def move_off(model):
    """Norms and biases away from 1 and 0, so that a forgotten one changes the answer."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter += 0.1 * torch.randn_like(parameter)


def make_batches(name, fixture):
    """Every input and the labels, batches stacked on axis 0."""
    random = torch.Generator().manual_seed(99)
    ids = torch.randint(3, VOCABULARY, (BATCHES, BATCH, SEQUENCE), generator=random)
    tensors = {"input_ids": ids}
    if fixture.masked:
        mask = tensors["attention_mask"] = torch.ones_like(ids)
        if name == "llama-padded":
            for batch in range(BATCHES):  # row 0, on the right, another length in every batch
                mask[batch, 0, SEQUENCE - 5 - 3 * batch % 40:] = 0
            ids[mask == 0] = 0
        elif fixture.loss != "causal-lm":
            mask[:, 1, SEQUENCE - 7:] = 0
    if fixture.loss == "classify":
        tensors["labels"] = torch.randint(0, 5, (BATCHES, BATCH), generator=random)
        return tensors
    labels = tensors["labels"] = ids.clone()
    if fixture.loss == "mlm":
        labels[torch.rand(ids.shape, generator=random) > 0.25] = IGNORED
    else:
        labels[:, 1, :5] = IGNORED  # a prompt
    if fixture.masked:
        labels[tensors["attention_mask"] == 0] = IGNORED
    return tensors


def loss_of(fixture, logits, labels):
    if fixture.loss == "causal-lm":
        logits, labels = logits[:, :-1], labels[:, 1:]
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1),
                                             ignore_index=IGNORED)


def export(wrapper, inputs, fixture, path):
    names, arguments = list(inputs), tuple(inputs.values())
    common = {"input_names": names, "output_names": ["logits"], "opset_version": fixture.opset}
    if fixture.opset < 18:
        axes = {name: {0: "batch", 1: "sequence"} for name in names + ["logits"]} if fixture.dynamic else None
        torch.onnx.export(wrapper, arguments, path, dynamo=False, dynamic_axes=axes, **common)
        return
    torch.onnx.export(wrapper, arguments, dynamo=True, **common).save(path, external_data=False)
    proto = onnx.load(path)
    for item in [proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input,
                 *proto.graph.output]:
        del item.metadata_props[:]  # the exporter's notes name files of the machine it ran on
    onnx.save(proto, path)


def match_initializers(proto, model):
    """The file's name for every parameter, found by value: as it is, transposed, or with the 1 of "1 + weight"."""
    parameters = [(name, value.detach().numpy()) for name, value in model.named_parameters()]
    found = {}
    for initializer in proto.graph.initializer:
        array = numpy_helper.to_array(initializer)
        for name, value in parameters:
            if array.dtype != value.dtype:
                continue
            if array.shape == value.shape and numpy.array_equal(array, value):
                found[initializer.name] = {"param": name, "transposed": False}
            elif array.ndim == 2 and array.T.shape == value.shape and numpy.array_equal(array.T, value):
                found[initializer.name] = {"param": name, "transposed": True}
            elif array.shape == value.shape and numpy.array_equal(array, value + 1):
                found[initializer.name] = {"param": name, "transposed": False, "plus": 1.0}
            else:
                continue
            break
    return found


def compare_runtime(path, inputs, logits):
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    return float(abs(theirs - logits.detach().numpy()).max())


def train(wrapper, fixture, tensors):
    """Reference tensors, and what meta.json says of them."""
    model = wrapper.m
    inputs = [name for name in tensors if name != "labels"]

    def step(batch):
        loss = loss_of(fixture, wrapper(*(tensors[name][batch] for name in inputs)), tensors["labels"][batch])
        model.zero_grad()
        loss.backward()
        # Parameters that the loss does not depend on have none.
        used = [parameter for parameter in model.parameters() if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([parameter.grad.norm() for parameter in used]))
        return loss.item(), norm.item(), used

    loss0, norm0, _ = step(0)
    reference = {"loss": torch.tensor(loss0)}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            reference["grad." + name] = parameter.grad.clone()
    groups = [list(model.parameters())]
    if fixture.matrices_only:
        groups = [[p for p in model.parameters() if p.dim() >= 2], [p for p in model.parameters() if p.dim() < 2]]
    optimizer = torch.optim.AdamW(
        [{"params": group, "weight_decay": decay} for group, decay in zip(groups, (DECAY, 0.0))],
        lr=LEARNING_RATE, betas=BETAS, eps=EPSILON)
    losses, norms = [], []
    for batch in range(1, BATCHES):
        loss, norm, used = step(batch)
        torch.nn.utils.clip_grad_norm_(used, CLIP)
        optimizer.step()
        losses.append(loss)
        norms.append(norm)
    for name, parameter in model.named_parameters():
        if "grad." + name in reference:
            reference["after." + name] = parameter.detach().clone()
    return reference, {"grad_norm": norm0, "loss0": loss0, "losses": losses, "grad_norms": norms}


def make(name, folder):
    fixture = FIXTURES[name]
    torch.manual_seed(0)
    wrapper = Logits(fixture.build()).eval()
    move_off(wrapper.m)
    tensors = make_batches(name, fixture)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "model.onnx")
    inputs = {key: value[0] for key, value in tensors.items() if key != "labels"}
    export(wrapper, inputs, fixture, path)
    proto = onnx.load(path)
    initializers = match_initializers(proto, wrapper.m)
    difference = compare_runtime(path, inputs, wrapper(*inputs.values()))
    reference, answers = train(wrapper, fixture, tensors)
    known = {entry["param"] for entry in initializers.values()}
    meta = {
        "name": name, "model": type(wrapper.m).__name__, "loss": fixture.loss,
        "exporter": "torchscript" if fixture.opset < 18 else "dynamo", "opset": fixture.opset,
        "dynamic": fixture.dynamic,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "onnx": onnx.__version__},
        "batch": BATCH, "sequence": SEQUENCE, "parameters": sum(p.numel() for p in wrapper.m.parameters()),
        "onnxruntime_max_abs_diff": difference,
        "optimizer": {
            "name": "adamw",
            "decay_applies_to":
                "parameters of two or more dimensions" if fixture.matrices_only else "every parameter",
            "lr": LEARNING_RATE, "betas": BETAS, "eps": EPSILON, "weight_decay": DECAY, "clip": CLIP},
        **answers,
        "ops": dict(collections.Counter(node.op_type for node in proto.graph.node).most_common()),
        "functions": sorted({function.name for function in proto.functions}),
        "initializers": initializers,
        "parameters_not_found_by_value": [n for n, _ in wrapper.m.named_parameters() if n not in known],
        "ignore_index": IGNORED}
    save_file({key: value.contiguous() for key, value in tensors.items()}, os.path.join(folder, "batches.safetensors"))
    save_file(reference, os.path.join(folder, "reference.safetensors"))
    with open(os.path.join(folder, "meta.json"), "w") as file:
        json.dump(meta, file, indent=1)
        file.write("\n")
    print(f"{folder}: {meta['parameters']:,} parameters, loss {meta['loss0']:.6f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIXTURES))
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in FIXTURES]:
        parser.error(f"{unknown[0]} is no fixture, should be one of {', '.join(FIXTURES)}")
    for name in arguments.names or FIXTURES:
        make(name, os.path.join(arguments.folder, name))


if __name__ == "__main__":
    main()
