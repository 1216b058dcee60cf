#include "test/emulated_cuda/ptx/Lexer.h"
#include "test/emulated_cuda/driver/Findings.h"
#include <cctype>

namespace emu::ptx {
namespace {

bool startsWord(char c) { return isalpha((unsigned char)c) || c == '_' || c == '$' || c == '%' || c == '.'; }
bool continuesWord(char c) { return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '.'; }

} // namespace

std::vector<Token> lex(std::string_view text) {
  std::vector<Token> tokens;
  int line = 1;
  size_t at = 0, end = text.size();
  auto skipLine = [&] {
    while (at < end && text[at] != '\n')
      ++at;
  };
  while (at < end) {
    char c = text[at];
    if (c == '\n') {
      ++line;
      ++at;
    } else if (isspace((unsigned char)c)) {
      ++at;
    } else if (text.substr(at, 2) == "//") {
      skipLine();
    } else if (text.substr(at, 2) == "/*") {
      for (at += 2; at < end && text.substr(at, 2) != "*/"; ++at)
        line += text[at] == '\n';
      at += 2;
    } else if (c == '"') {
      size_t from = ++at;
      while (at < end && text[at] != '"')
        ++at;
      tokens.push_back({Token::String, text.substr(from, at - from), line});
      ++at;
    } else if (startsWord(c) && !(c == '.' && at + 1 < end && isdigit((unsigned char)text[at + 1]))) {
      size_t from = at++;
      for (; at < end; ++at) {
        if (text.substr(at, 2) == "::") // ld.global.L1::no_allocate; one colon ends a label
          ++at;
        else if (!continuesWord(text[at]))
          break;
      }
      std::string_view word = text.substr(from, at - from);
      if (word == ".loc" || word == ".file")
        skipLine();
      else
        tokens.push_back({Token::Word, word, line});
    } else if (isdigit((unsigned char)c) || c == '.') {
      size_t from = at++;
      for (; at < end; ++at)
        if (!isalnum((unsigned char)text[at]) && text[at] != '.' &&
            !((text[at] == '-' || text[at] == '+') && (text[at - 1] == 'e' || text[at - 1] == 'E') &&
              text.substr(from, 2) != "0x" && text.substr(from, 2) != "0d" && text.substr(from, 2) != "0f" &&
              text.substr(from, 2) != "0D" && text.substr(from, 2) != "0F"))
          break;
      tokens.push_back({Token::Number, text.substr(from, at - from), line});
    } else {
      if (!ispunct((unsigned char)c))
        throw LoadError(line, concat("character ", (int)(unsigned char)c, " is not PTX"));
      tokens.push_back({Token::Mark, text.substr(at++, 1), line});
    }
  }
  tokens.push_back({Token::End, {}, line});
  return tokens;
}

} // namespace emu::ptx
