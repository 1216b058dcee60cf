#include "test/emulated_cuda/ptx/Module.h"

namespace emu::ptx {
namespace {

struct Row {
  Type type;
  const char *name;
  unsigned bytes;
};

constexpr Row rows[] = {
    {Type::None, "none", 0}, {Type::Pred, "pred", 0}, {Type::B8, "b8", 1},       {Type::U8, "u8", 1},
    {Type::S8, "s8", 1},     {Type::B16, "b16", 2},   {Type::U16, "u16", 2},     {Type::S16, "s16", 2},
    {Type::F16, "f16", 2},   {Type::BF16, "bf16", 2}, {Type::B32, "b32", 4},     {Type::U32, "u32", 4},
    {Type::S32, "s32", 4},   {Type::F32, "f32", 4},   {Type::F16x2, "f16x2", 4}, {Type::BF16x2, "bf16x2", 4},
    {Type::TF32, "tf32", 4}, {Type::B64, "b64", 8},   {Type::U64, "u64", 8},     {Type::S64, "s64", 8},
    {Type::F64, "f64", 8},
};

} // namespace

unsigned sizeOf(Type type) { return rows[(size_t)type].bytes; }
const char *nameOf(Type type) { return rows[(size_t)type].name; }

bool isSigned(Type type) { return type == Type::S8 || type == Type::S16 || type == Type::S32 || type == Type::S64; }

bool isFloat(Type type) {
  switch (type) {
  case Type::F16:
  case Type::BF16:
  case Type::F32:
  case Type::F16x2:
  case Type::BF16x2:
  case Type::TF32:
  case Type::F64:
    return true;
  default:
    return false;
  }
}

bool isInteger(Type type) { return sizeOf(type) && !isFloat(type); }

std::optional<Type> typeNamed(std::string_view name) {
  for (const Row &row : rows)
    if (row.type != Type::None && name == row.name)
      return row.type;
  return std::nullopt;
}

const Function *Module::find(const std::string &name) const {
  const Function *found = nullptr;
  for (const Function &function : functions)
    if (function.name == name && (!found || function.hasBody)) // a declaration may come first
      found = &function;
  return found;
}

} // namespace emu::ptx
