// Joint graphs of small models, forward and backward, for tests of blocks and checkpointing.
#ifndef AMC_TEST_UNIT_ANALYSIS_MODELS_H
#define AMC_TEST_UNIT_ANALYSIS_MODELS_H

#include "analysis_graphs.h"
#include <tuple>

namespace amc::test {

struct Layer {
  uint32_t input, norm1, q, k, v, qr, kr, attention, o, mid, norm2, gate, up, act, down, output;
};

// A decoder in Llama's shape. Residual values have 100 bytes, MLP values 300, the rotary table 7.
struct Llama : GraphBuilder {
  std::vector<Layer> layers;
  uint32_t table = 0, embedded = 0, normed = 0, logits = 0;

  explicit Llama(unsigned count, bool backward = true) {
    table = op("table", {input(8)}, 7);
    embedded = op("embedding", {parameter(), input(8)});
    uint32_t x = embedded;
    for (unsigned i = 0; i < count; ++i)
      x = addLayer(x);
    normed = op("norm", {x, parameter()});
    logits = matmul(normed, parameter(), 500);
    output(op("loss", {logits}, 4));
    if (backward)
      addBackward();
  }

  uint32_t addLayer(uint32_t x) {
    Layer l;
    l.input = x;
    l.norm1 = op("norm", {x, parameter()});
    l.q = matmul(l.norm1, parameter());
    l.k = matmul(l.norm1, parameter(), 50);
    l.v = matmul(l.norm1, parameter(), 50);
    l.qr = op("rotary", {view(l.q), table});
    l.kr = op("rotary", {view(l.k), table}, 50);
    l.attention = op("attention", {l.qr, l.kr, view(l.v)}, 100, KeepClass::Save);
    l.o = matmul(view(l.attention), parameter());
    l.mid = op("add", {x, l.o});
    l.norm2 = op("norm", {l.mid, parameter()});
    l.gate = matmul(l.norm2, parameter(), 300);
    l.up = matmul(l.norm2, parameter(), 300);
    l.act = op("gated", {l.gate, l.up}, 300);
    l.down = matmul(l.act, parameter());
    l.output = op("add", {l.mid, l.down});
    layers.push_back(l);
    return l.output;
  }

  // What each operation's gradient reads; the gradients themselves flow through `g`.
  void addBackward() {
    phase = OpPhase::Backward;
    uint32_t g = op("loss_backward", {logits}, 500);
    g = op("matmul_backward", {g, normed});
    g = op("norm_backward", {g, layers.empty() ? embedded : layers.back().output});
    for (auto l = layers.rbegin(); l != layers.rend(); ++l) {
      uint32_t d = op("matmul_backward", {g, l->act}, 300);
      d = op("gated_backward", {d, l->gate, l->up}, 300);
      d = op("matmul_backward", {d, l->norm2});
      d = op("norm_backward", {d, l->mid});
      g = op("add", {g, d});
      d = op("matmul_backward", {g, l->attention});
      d = op("attention_backward", {d, l->qr, l->kr, view(l->v), l->attention});
      d = op("rotary_backward", {d, table});
      d = op("matmul_backward", {d, l->norm1});
      d = op("norm_backward", {d, l->input});
      g = op("add", {g, d});
    }
    op("embedding_backward", {g}, 400);
  }
};

// Four layers of which the last two read the keys and values of the second. Values have 100 bytes,
// those of the MLP 300.
struct SharedKeyModel : GraphBuilder {
  struct SharedLayer {
    uint32_t input, norm, q, rotated, k, v, attention, o, mid, up, act, output;
  };
  std::vector<SharedLayer> layers;

  explicit SharedKeyModel() {
    uint32_t x = op("embedding", {parameter(), input(8)});
    for (int i = 0; i < 4; ++i) {
      SharedLayer l;
      l.input = x;
      l.norm = op("norm", {x, parameter()});
      l.q = matmul(l.norm, parameter());
      l.rotated = op("rotary", {l.q});
      l.k = i < 2 ? matmul(l.norm, parameter()) : layers[1].k;
      l.v = i < 2 ? matmul(l.norm, parameter()) : layers[1].v;
      l.attention = op("attention", {l.rotated, l.k, l.v}, 100, KeepClass::Save);
      l.o = matmul(l.attention, parameter());
      l.mid = op("add", {x, l.o});
      l.up = matmul(op("norm", {l.mid, parameter()}), parameter(), 300);
      l.act = op("gelu", {l.up}, 300);
      x = l.output = op("add", {l.mid, matmul(l.act, parameter())});
      layers.push_back(l);
    }
    output(op("loss", {x}, 4));
    phase = OpPhase::Backward;
    uint32_t g = op("loss_backward", {x});
    for (auto l = layers.rbegin(); l != layers.rend(); ++l) {
      uint32_t norm2 = graph.ops[graph.values[l->up].producer].operands[0];
      g = op("mlp_backward", {g, l->act, l->up, norm2, l->mid});
      g = op("attention_backward", {g, l->attention, l->rotated, l->k, l->v});
      g = op("norm_backward", {g, l->norm, l->input});
    }
  }
};

// Three layers of attention and a mixture of experts: norm, router, softmax, top-k (weights and
// choices), two grouped products. Values have 100 bytes, the router's 10, choices 5.
struct MixtureModel : GraphBuilder {
  struct MixtureLayer {
    uint32_t input, q, attention, mid, norm, router, softmax, weights, choices, gate, down, output;
  };
  std::vector<MixtureLayer> layers;

  MixtureModel() {
    uint32_t x = op("embedding", {parameter(), input(8)});
    for (int i = 0; i < 3; ++i) {
      MixtureLayer l;
      l.input = x;
      l.q = matmul(x, parameter());
      l.attention = op("attention", {l.q, l.q}, 100, KeepClass::Save);
      l.mid = op("add", {x, l.attention});
      l.norm = op("norm", {l.mid});
      l.router = matmul(l.norm, parameter(), 10);
      l.softmax = op("softmax", {l.router}, 10);
      std::tie(l.weights, l.choices) = topK(l.softmax);
      l.gate = op("grouped_matmul", {l.norm, parameter(), l.choices}, 100, KeepClass::Alternate);
      l.down = op("grouped_matmul", {op("gelu", {l.gate}), parameter(), l.choices}, 100,
                  KeepClass::Alternate);
      x = l.output = op("add", {l.mid, op("mul", {l.down, l.weights})});
      layers.push_back(l);
    }
    output(op("loss", {x}, 4));
    phase = OpPhase::Backward;
    uint32_t g = op("loss_backward", {x});
    for (auto l = layers.rbegin(); l != layers.rend(); ++l) {
      uint32_t gelu = graph.ops[graph.values[l->down].producer].operands[0];
      g = op("experts_backward", {g, l->down, l->weights, gelu, l->gate, l->choices, l->norm});
      g = op("router_backward", {g, l->softmax, l->choices, l->norm});
      g = op("attention_backward", {g, l->mid, l->attention, l->q, l->input});
    }
  }

  std::pair<uint32_t, uint32_t> topK(uint32_t x) {
    uint32_t weights = op("top_k", {x}, 10, KeepClass::Save);
    GraphOp &made = last();
    uint32_t choices = static_cast<uint32_t>(graph.values.size());
    graph.values.push_back(graph.values[weights]);
    graph.values.back().root = choices;
    graph.values.back().bytes = 5;
    graph.values.back().integer = true;
    made.results.push_back(choices);
    return {weights, choices};
  }
};

} // namespace amc::test

#endif
