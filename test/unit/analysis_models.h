// Joint graphs of small models, forward and backward, for tests of blocks and checkpointing.
#ifndef AMC_TEST_UNIT_ANALYSIS_MODELS_H
#define AMC_TEST_UNIT_ANALYSIS_MODELS_H

#include "analysis_graphs.h"

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

} // namespace amc::test

#endif
