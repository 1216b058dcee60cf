// PTX text into words, numbers and marks.
#ifndef AMC_TEST_EMULATED_CUDA_PTX_LEXER_H
#define AMC_TEST_EMULATED_CUDA_PTX_LEXER_H

#include "test/emulated_cuda/ptx/Module.h"

namespace emu::ptx {

struct Token {
  enum Kind : uint8_t { Word, Number, String, Mark, End };
  Kind kind = End;
  std::string_view text;
  int line = 0;
  bool is(std::string_view t) const { return kind != String && text == t; }
};

// Comments are dropped, and lines of .loc and .file with them.
std::vector<Token> lex(std::string_view text);

} // namespace emu::ptx

#endif
