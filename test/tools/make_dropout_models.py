#!/usr/bin/env python3
"""Writes Inputs/gpt2-dropout.onnx and Inputs/bert-dropout.onnx: small models as PyTorch exports them for training, with
dropout of attention's probabilities (attn_implementation="eager": torch's exporters write that of "sdpa" without its
training mode), GPT-2 by the exporter of torch.export, BERT by the older one. Weights are absent. gpt2-dropout-decomposed.onnx
takes the absolute values of the dropped probabilities, which changes nothing but keeps AMC from raising attention. Needed only to change them; environment: models/make-venv."""
import os
import tempfile

import onnx
import torch
import transformers
from onnx import helper

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "Inputs")
BATCH, SEQUENCE = 2, 22  # 22: rows of the mask start within a draw of four


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self, input_ids):
        return self.m(input_ids=input_ids).logits


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=96, n_embd=32, n_layer=3, n_head=4, n_positions=64, use_cache=False, attn_implementation="eager"))


def bert():
    return transformers.BertForMaskedLM(transformers.BertConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, attn_implementation="eager"))


def save(proto, name):
    del proto.metadata_props[:], proto.graph.metadata_props[:], proto.graph.value_info[:]
    for item in [*proto.graph.node, *proto.graph.input, *proto.graph.output]:
        del item.metadata_props[:]  # the exporter's notes name files of the machine it ran on
        item.doc_string = ""
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "model.onnx")
        onnx.save(proto, path, save_as_external_data=True, location="absent.data", size_threshold=256)
        os.replace(path, os.path.join(folder, name + ".onnx"))


def decompose(proto):
    """A copy with an Abs behind each dropout of a softmax."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    softmax = {output for node in proto.graph.node if node.op_type == "Softmax" for output in node.output}
    del copy.graph.node[:]
    count = 0
    for node in proto.graph.node:
        added = copy.graph.node.add()
        added.CopyFrom(node)
        if node.op_type == "Dropout" and node.input[0] in softmax:
            result = added.output[0]
            added.output[0] = result + "_signed"
            copy.graph.node.append(helper.make_node("Abs", [result + "_signed"], [result]))
            count += 1
    assert count == 3
    return copy


def main():
    inputs = (torch.zeros((BATCH, SEQUENCE), dtype=torch.int64),)
    names = {"input_names": ["input_ids"], "output_names": ["logits"]}
    for name, build in {"gpt2": gpt2, "bert": bert}.items():
        torch.manual_seed(0)
        model = Logits(build()).train()
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, "model.onnx")
            if name == "gpt2":
                torch.onnx.export(model, inputs, dynamo=True, opset_version=18, optimize=False, **names).save(path)
            else:
                torch.onnx.export(model, inputs, path, dynamo=False, opset_version=17, do_constant_folding=False,
                                  training=torch.onnx.TrainingMode.TRAINING, **names)
            proto = onnx.load(path)
        if name == "gpt2":
            save(decompose(proto), "gpt2-dropout-decomposed")
        save(proto, name + "-dropout")


if __name__ == "__main__":
    main()
