// See SaveWeights.h.
#include "runtime/trainer/SaveWeights.h"

#include "runtime/trainer/Transpose.h"
#include "runtime/trainer/Weights.h"

namespace amc::rt {

Expected<SharedWriter> SharedWriter::create(const Ranks &ranks, const std::string &path,
                                            std::vector<SafetensorsWriter::Spec> specs,
                                            const std::map<std::string, std::string> &metadata) {
  std::optional<SafetensorsWriter> writer;
  Status mine;
  if (ranks.isFirst()) {
    Expected<SafetensorsWriter> made = SafetensorsWriter::create(path, specs, metadata);
    mine = made.status();
    if (made.ok())
      writer.emplace(std::move(made).value());
  }
  if (!ranks.alone()) {
    if (Status failure = ranks.agree(mine); !failure.ok())
      return failure;
    Expected<std::vector<std::string>> names = ranks.exchange(writer ? writer->partialPath() : "");
    if (!names.ok())
      return names.status();
    if (!ranks.isFirst()) {
      Expected<SafetensorsWriter> joined =
          SafetensorsWriter::join(path, names->front(), std::move(specs), metadata);
      mine = joined.status();
      if (joined.ok())
        writer.emplace(std::move(joined).value());
    }
    mine = ranks.agree(mine);
  }
  if (!mine.ok())
    return mine;
  return SharedWriter(ranks, path, std::move(*writer));
}

Status SharedWriter::finish() {
  if (ranks->alone())
    return writer.finish();
  if (Status failure = ranks->agree(writer.flush()); !failure.ok())
    return failure;
  Expected<std::vector<std::string>> written =
      ranks->exchange(std::to_string(writer.writtenBytes()));
  if (!written.ok())
    return written.status();
  // Every rank comes to the same sum, so that all of them stop here or none does.
  uint64_t bytes = 0;
  for (const std::string &count : *written)
    bytes += std::strtoull(count.c_str(), nullptr, 10);
  Status mine;
  if (bytes != writer.dataBytes())
    mine = inputError(path, ": has ", bytes, " bytes written by all ranks and should have ",
                      writer.dataBytes());
  else if (ranks->isFirst())
    mine = writer.commit();
  return ranks->agree(mine);
}

Status appendSpecs(const Executor &executor, const Ranks &ranks, size_t index,
                   std::string_view prefix, DType dtype,
                   std::vector<SafetensorsWriter::Spec> &specs) {
  const plan::Parameter &parameter = executor.plan().parameters(static_cast<int>(index));
  Expected<Shape> shape = wholeShapeOf(parameter.view(), parameter.splits(), ranks);
  if (!shape.ok())
    return shape.status();
  specs.push_back({text(prefix, parameter.name()), dtype, *shape});
  for (const plan::TiedName &tied : parameter.tied()) {
    if (!TransposedLayout::valid(*shape, permutationOf(tied)))
      return inputError("the plan's permutation for '", tied.name(), "' is none of its axes");
    specs.push_back({text(prefix, tied.name()), dtype,
                     TransposedLayout(*shape, permutationOf(tied)).storedShape()});
  }
  return {};
}

Status saveTensor(const Executor &executor, const Ranks &ranks, size_t index, const Tensor &tensor,
                  const Splits &splits, std::string_view prefix, SharedWriter &writer) {
  const plan::Parameter &parameter = executor.plan().parameters(static_cast<int>(index));
  Expected<Slice> slice = sliceOf(*tensor.view, splits, ranks);
  if (!slice.ok())
    return slice.status();
  if (!slice->lowestHolder())
    return {};
  Expected<TensorBytes> held = executor.read(tensor);
  if (!held.ok())
    return held.status();
  uint64_t width = dtypeBytes(tensor.dtype);
  auto save = [&](const std::string &name, const std::vector<uint32_t> &permutation) {
    return writeSlice(
        slice->stored(permutation), width, held->data(),
        [&](uint64_t first, std::span<const std::byte> bytes) {
          return writer.write(name, first * width, bytes);
        },
        [&] { ranks.progress(); });
  };
  if (Status failure = save(text(prefix, parameter.name()), {}); !failure.ok())
    return failure;
  for (const plan::TiedName &tied : parameter.tied())
    if (Status failure = save(text(prefix, tied.name()), permutationOf(tied)); !failure.ok())
      return failure;
  return {};
}

Status saveWeights(const Executor &executor, const Ranks &ranks, const std::string &path) {
  std::vector<SafetensorsWriter::Spec> specs;
  size_t count = static_cast<size_t>(executor.plan().parameters_size());
  for (size_t i = 0; i < count; ++i)
    if (Status failure = appendSpecs(executor, ranks, i, "", executor.parameter(i).dtype, specs);
        !failure.ok())
      return failure;
  Expected<SharedWriter> writer =
      SharedWriter::create(ranks, path, std::move(specs), {{"format", "pt"}});
  if (!writer.ok())
    return writer.status();
  Status written;
  for (size_t i = 0; i < count && written.ok(); ++i)
    written = saveTensor(executor, ranks, i, executor.parameter(i),
                         executor.plan().parameters(static_cast<int>(i)).splits(), "", *writer);
  // A rank that could not write says so before the others go on.
  if (Status failure = ranks.agree(written); !failure.ok())
    return failure;
  return writer->finish();
}

} // namespace amc::rt
