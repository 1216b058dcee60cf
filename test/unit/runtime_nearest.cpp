// What is offered to somebody who has mistyped a name, and what is not.
#include "runtime/support/Nearest.h"

#include <gtest/gtest.h>

using amc::rt::nearest;

TEST(Nearest, IsTheFewestEditsThenTheFirst) {
  EXPECT_EQ(nearest("--optimiser", {"--output", "--optimizer"}), "--optimizer");
  EXPECT_EQ(nearest("steps", {"stepa", "stepb"}), "stepa");
  EXPECT_EQ(nearest("aa", {"a"}), "a");
}

TEST(Nearest, FarIsNotOffered) {
  EXPECT_EQ(nearest("x", {"a", "b"}), "");
  EXPECT_EQ(nearest("--zzzzzzzzzzzzzzz", {"--optimizer", "--output"}), "");
  EXPECT_EQ(nearest("everything", {"none", "full", "selective"}), "");
  EXPECT_EQ(nearest("word", {}), "");
  EXPECT_EQ(nearest("", {"a"}), "");
}

// A third of each part may differ: 1 of 3 letters, 2 of 8. What two long names share makes up for nothing.
TEST(Nearest, PathsArePartByPart) {
  EXPECT_EQ(nearest("optimizer.foo", {"optimizer.lr", "optimizer.eps"}), "");
  EXPECT_EQ(nearest("optimizer.lrr", {"optimizer.lr", "optimizer.eps"}), "optimizer.lr");
  EXPECT_EQ(
      nearest("m.layers.0.mlp.dwn_proj.weight", {"m.layers.0.mlp.up_proj.weight", "m.layers.0.mlp.down_proj.weight"}),
      "m.layers.0.mlp.down_proj.weight");
  EXPECT_EQ(nearest("m.layers.0.mlp.dwn_proj.weight", {"m.layers.0.input_layernorm.weight"}), "");
  EXPECT_EQ(nearest("m.layers0.norm.weight", {"m.layers.0.norm.weight"}), "m.layers.0.norm.weight");
  EXPECT_EQ(nearest("/layers.9/attn", {"/layers.0/attn", "/layers.0/norm"}), "/layers.0/attn");
}

TEST(Nearest, PartsOfNamesAreNear) {
  EXPECT_EQ(nearest("embed_tokens", {"m.norm.weight", "m.embed_tokens.weight", "lm_head.weight"}),
            "m.embed_tokens.weight");
  EXPECT_EQ(nearest("lr", {"optimizer.lr"}), ""); // in many names by chance
}
