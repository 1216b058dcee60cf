// Matrix products. A product with a two-dimensional weight is a linear layer, which knows it as
// one; any other product is a matmul.
#include "compiler/import/Node.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace amc::train;

namespace amc::importer {

static bool isWeight(Value v) {
  return v && v.getDefiningOp<ParameterOp>() && shapeOf(v).size() == 2 &&
         isa<FloatType>(elementOf(v));
}

/// NumPy's matmul: vectors are rows on the left and columns on the right.
static Value product(Node &n, Value a, Value b) {
  if (!a || !b)
    return {};
  if (shapeOf(a).empty() || shapeOf(b).empty()) {
    n.fail("operands should have rank 1 or more");
    return {};
  }
  if (isWeight(b))
    return n.linear(a, b, {}, false);
  bool row = shapeOf(a).size() == 1, column = shapeOf(b).size() == 1;
  if (row)
    a = n.reshape(a, {1, shapeOf(a)[0]});
  if (column)
    b = n.reshape(b, {shapeOf(b)[0], 1});
  Value y = n.matmul(a, b);
  if (!y || !(row || column))
    return y;
  Ints to(shapeOf(y));
  if (column)
    to.pop_back();
  if (row)
    to.erase(to.end() - (column ? 1 : 2));
  return n.reshape(y, to);
}

static void matMul(Node &n) { n.set(0, product(n, n.in(0), n.in(1))); }

static void gemm(Node &n) {
  Value a = n.in(0), b = n.in(1), c = n.opt(2);
  double alpha = n.getFloat("alpha", 1), beta = n.getFloat("beta", 1);
  bool transA = n.getFlag("transA"), transB = n.getFlag("transB");
  if (!a || !b)
    return;
  if (shapeOf(a).size() != 2 || shapeOf(b).size() != 2)
    return n.fail("operands should have rank 2");
  bool scaled = alpha != 1, vector = c && shapeOf(c).size() == 1 && beta == 1;
  Value y;
  if (isWeight(b)) {
    bool fused = vector && !scaled && shapeOf(c)[0] == shapeOf(b)[transB ? 0 : 1];
    y = n.linear(transA ? n.transpose(a, {1, 0}) : a, b, fused ? c : Value(), transB);
    if (fused)
      c = {};
  } else {
    y = n.matmul(a, b, transA, transB);
  }
  if (scaled)
    y = n.mul(y, n.scalar(alpha, y));
  if (c && beta != 0)
    y = n.add(y, beta == 1 ? c : n.mul(c, n.scalar(beta, c)));
  n.set(0, y);
}

/// com.microsoft: MatMul with transposed operands and a factor.
static void fusedMatMul(Node &n) {
  Value a = n.in(0), b = n.in(1);
  double alpha = n.getFloat("alpha", 1);
  bool transA = n.getFlag("transA"), transB = n.getFlag("transB");
  if (n.getFlag("transBatchA") || n.getFlag("transBatchB"))
    return n.unsupported("transposed batches");
  if (!a || !b)
    return;
  Value y = isWeight(b) && !transA ? n.linear(a, b, {}, transB) : n.matmul(a, b, transA, transB);
  n.set(0, alpha == 1 ? y : n.mul(y, n.scalar(alpha, y)));
}

// ---------------------------------------------------------------- Einsum

namespace {

/// An operand with one letter for each dimension.
struct Term {
  Value value;
  std::string letters;
};

} // namespace

static bool in(char letter, StringRef letters) { return letters.contains(letter); }

/// Sums over dimensions whose letter `keep` lacks.
static Term sumOut(Node &n, Term term, StringRef keep) {
  Ints axes;
  std::string letters;
  for (auto [i, letter] : llvm::enumerate(term.letters))
    if (in(letter, keep))
      letters += letter;
    else
      axes.push_back(i);
  if (!axes.empty())
    term.value = n.reduce<ReduceSumOp>(term.value, axes, false);
  return {term.value, letters};
}

static Value permuteTo(Node &n, Term term, StringRef letters) {
  Ints permutation;
  for (char letter : letters)
    permutation.push_back(term.letters.find(letter));
  return n.transpose(term.value, permutation);
}

static int64_t extent(const Term &term, char letter) {
  return shapeOf(term.value)[term.letters.find(letter)];
}

/// Two operands as one batched product: [batch, left, sum] x [batch, sum, right].
static Term contract(Node &n, Term a, Term b, StringRef later) {
  std::string batch, sum, left, right, keepA = b.letters + later.str(),
                                       keepB = a.letters + later.str();
  a = sumOut(n, a, keepA);
  b = sumOut(n, b, keepB);
  if (!a.value || !b.value)
    return {};
  for (char letter : a.letters)
    (in(letter, b.letters) ? (in(letter, later) ? batch : sum) : left) += letter;
  for (char letter : b.letters)
    if (!in(letter, a.letters))
      right += letter;
  std::string letters = batch + left + right;
  // Without a sum it is an elementwise product of broadcast operands.
  if (sum.empty()) {
    Ints shapeA, shapeB;
    for (char letter : letters) {
      shapeA.push_back(in(letter, a.letters) ? extent(a, letter) : 1);
      shapeB.push_back(in(letter, b.letters) ? extent(b, letter) : 1);
    }
    Value x = n.reshape(permuteTo(n, a, batch + left), shapeA),
          y = n.reshape(permuteTo(n, b, batch + right), shapeB);
    return {n.mul(x, y), letters};
  }
  auto count = [](const Term &term, StringRef letters) {
    int64_t product = 1;
    for (char letter : letters)
      product *= extent(term, letter);
    return product;
  };
  Ints shape;
  for (char letter : batch)
    shape.push_back(std::max(extent(a, letter), extent(b, letter)));
  for (char letter : left)
    shape.push_back(extent(a, letter));
  for (char letter : right)
    shape.push_back(extent(b, letter));
  // A weight as it lies in its file stays a weight.
  if (batch.empty() && isWeight(b.value) && b.letters.size() == 2 && right.size() == 1 &&
      sum.size() == 1) {
    Ints rows;
    for (char letter : left)
      rows.push_back(extent(a, letter));
    rows.push_back(count(a, sum));
    Value x = n.reshape(permuteTo(n, a, left + sum), rows);
    return {n.reshape(n.linear(x, b.value, {}, b.letters[0] == right[0]), shape), letters};
  }
  Value x = permuteTo(n, a, batch + left + sum), y = permuteTo(n, b, batch + sum + right);
  if (!x || !y)
    return {};
  Ints batchA(shapeOf(x).take_front(batch.size())), batchB(shapeOf(y).take_front(batch.size()));
  batchA.append({count(a, left), count(a, sum)});
  batchB.append({count(b, sum), count(b, right)});
  return {n.reshape(n.matmul(n.reshape(x, batchA), n.reshape(y, batchB)), shape), letters};
}

static void einsum(Node &n) {
  std::string equation = n.getString("equation", "");
  equation.erase(std::remove(equation.begin(), equation.end(), ' '), equation.end());
  std::vector<Value> inputs = n.from(0);
  if (n.failed)
    return;
  auto [left, right] = StringRef(equation).split("->");
  bool explicitOutput = StringRef(equation).contains("->");
  SmallVector<StringRef> subscripts;
  left.split(subscripts, ',');
  if (subscripts.size() != inputs.size())
    return n.fail("equation '" + equation + "' has " + Twine(subscripts.size()) + " operands for " +
                  Twine(inputs.size()) + " inputs");
  // An ellipsis stands for as many dimensions as are left; capitals that the equation does not use
  // name them.
  std::string spare, ellipsis;
  for (char letter = 'A'; letter <= 'Z'; ++letter)
    if (!in(letter, equation))
      spare += letter;
  std::vector<Term> terms;
  for (auto [text, value] : llvm::zip(subscripts, inputs)) {
    int64_t rank = shapeOf(value).size();
    std::string letters = text.str();
    if (size_t dots = letters.find("..."); dots != std::string::npos) {
      int64_t hidden = rank - (static_cast<int64_t>(letters.size()) - 3);
      if (hidden < 0 || hidden > static_cast<int64_t>(spare.size()))
        return n.fail("equation '" + equation + "' does not fit rank " + Twine(rank));
      std::string names = spare.substr(0, hidden);
      std::reverse(names.begin(), names.end()); // they align at the right
      letters.replace(dots, 3, names);
      if (names.size() > ellipsis.size())
        ellipsis = names;
    }
    if (static_cast<int64_t>(letters.size()) != rank ||
        !llvm::all_of(letters, [](char c) { return llvm::isAlpha(c); }))
      return n.fail("equation '" + equation + "' does not fit rank " + Twine(rank));
    if (std::set<char>(letters.begin(), letters.end()).size() != letters.size())
      return n.unsupported("a diagonal (one letter twice in an operand)");
    terms.push_back({value, letters});
  }
  std::string output;
  if (explicitOutput) {
    output = right.str();
    if (size_t dots = output.find("..."); dots != std::string::npos)
      output.replace(dots, 3, ellipsis);
  } else { // letters that occur once, in alphabetical order
    std::map<char, int> uses;
    for (StringRef text : subscripts)
      for (char letter : text)
        if (llvm::isAlpha(letter))
          ++uses[letter];
    output = ellipsis;
    for (auto [letter, count] : uses)
      if (count == 1)
        output += letter;
  }
  std::map<char, int64_t> extents;
  for (const Term &term : terms)
    for (auto [letter, dim] : llvm::zip(term.letters, shapeOf(term.value))) {
      int64_t &have = extents.try_emplace(letter, dim).first->second;
      if (have != dim && have != 1 && dim != 1)
        return n.fail("dimension '" + Twine(letter) + "' is " + Twine(have) + " and " + Twine(dim));
      if (have != dim && !in(letter, ellipsis))
        return n.unsupported("broadcasting of a named dimension");
      have = std::max(have, dim);
    }
  for (char letter : output)
    if (!extents.count(letter))
      return n.fail("equation '" + equation + "' makes '" + Twine(letter) + "' from nothing");

  Term result = terms[0];
  for (size_t i = 1; i < terms.size() && result.value; ++i) {
    std::string later = output;
    for (size_t j = i + 1; j < terms.size(); ++j)
      later += terms[j].letters;
    result = contract(n, result, terms[i], later);
  }
  if (!result.value)
    return;
  result = sumOut(n, result, output);
  n.set(0, permuteTo(n, result, output));
}

ArrayRef<OpEntry> productOps() {
  static const OpEntry table[] = {
      {"", "MatMul", 13, matMul},
      {"", "Gemm", 13, gemm},
      {"", "Einsum", 12, einsum},
      {"com.microsoft", "FusedMatMul", 1, fusedMatMul},
  };
  return table;
}

} // namespace amc::importer
