#!/usr/bin/env python3
"""Exports Hugging Face models with random weights for training from scratch. Environment: models/make-venv.

  export.py byte-llama models/byte-llama.onnx      the quickstart's model: 6.0 M parameters, one token a byte
  export.py llama-100m DIR/model.onnx              for test/bench: 100 M parameters, weights beside the graph
  export.py gpt2-124m DIR/model.onnx
  export.py llama-1b DIR/model.onnx                for GPUs: 1.2 B parameters
  export.py llama-layers-N DIR/model.onnx          N narrow layers, for compile time
  export.py llama-100m@8192 DIR/model.onnx         the same with that many positions (otherwise 1024)

Batch and sequence stay symbolic (`amc compile --shape input_ids=8x256` binds them). byte-llama is written without its
weights: `amrun --init seed:N` draws them, and the file stays small enough to commit.
"""
import argparse
import os

import onnx
import torch
import transformers


def llama(vocabulary, hidden, layers, heads, key_value_heads, intermediate, positions, tied=False):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=key_value_heads, intermediate_size=intermediate, max_position_embeddings=positions,
        tie_word_embeddings=tied, use_cache=False))


def gpt2(positions):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_positions=positions, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False))


MODELS = {
    # 256 bytes and one token that ends a document.
    "byte-llama": lambda positions: llama(257, 256, 8, 8, 4, 704, positions),
    "llama-100m": lambda positions: llama(32000, 768, 12, 12, 4, 2048, positions, tied=True),
    # Llama-3.2-1B's shape.
    "llama-1b": lambda positions: llama(128256, 2048, 16, 32, 8, 8192, positions, tied=True),
    "gpt2-124m": gpt2,
}


def positions(name):
    _, _, number = name.partition("@")
    return int(number or 1024)


def build(name):
    """The model called `name`, weights drawn from seed 0."""
    torch.manual_seed(0)
    kind = name.partition("@")[0]
    if kind.startswith("llama-layers-"):
        return llama(512, 64, int(kind.removeprefix("llama-layers-")), 4, 2, 160, positions(name))
    return MODELS[kind](positions(name))


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids=input_ids).logits


def export(model, path, weights, longest=1024):
    dims = {0: torch.export.Dim("batch", min=1, max=1024), 1: torch.export.Dim("sequence", min=2, max=longest)}
    program = torch.onnx.export(
        Logits(model.eval()), (torch.zeros((2, 16), dtype=torch.int64),), dynamo=True, opset_version=18,
        input_names=["input_ids"], output_names=["logits"], dynamic_shapes={"input_ids": dims}, external_data=True,
        # The optimizer merges initializers that are equal before training (all norms of a fresh model), drops biases
        # that are still zero and renames what is left: another model than PyTorch's once it is trained.
        optimize=False)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    program.save(path, external_data=True)
    proto = onnx.load(path, load_external_data=False)
    for node in proto.graph.node:  # the exporter's notes name files of the machine it ran on
        del node.metadata_props[:]
    for value in list(proto.graph.value_info) + list(proto.graph.input) + list(proto.graph.output):
        del value.metadata_props[:]
    del proto.metadata_props[:], proto.graph.metadata_props[:]
    names = {i.name: i.name.removeprefix("model.") for i in proto.graph.initializer}  # PyTorch's, without Logits' own
    for initializer in proto.graph.initializer:
        initializer.name = names[initializer.name]
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    for value in proto.graph.value_info:
        value.name = names.get(value.name, value.name)
    onnx.save(proto, path)
    if not weights:
        os.remove(path + ".data")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help=", ".join(sorted(MODELS)) + ", llama-layers-N")
    parser.add_argument("path")
    arguments = parser.parse_args()
    if arguments.model.partition("@")[0] not in MODELS and not arguments.model.startswith("llama-layers-"):
        parser.error(f"model is {arguments.model}, should be one of {', '.join(sorted(MODELS))}, llama-layers-N")
    model = build(arguments.model)
    export(model, arguments.path, weights=arguments.model != "byte-llama", longest=positions(arguments.model))
    print(f"{arguments.path}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
