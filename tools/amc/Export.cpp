// Phases: match the plan's parameters with the model's initializers and the checkpoint's tensors,
// reporting mismatches together; put the trained bytes in, in the dtype that the file had; write.
// Weights that were outside the model stay outside, in one file beside the new model; so do those
// of a model that would pass protobuf's 2 GiB. Bounded by memory: the trained weights are held
// once, in their file's dtype.
//
// It stands here and not in libamc because it reads checkpoints with the runtime's safetensors
// reader, and compiler and runtime share nothing but the plan.
#include "tools/amc/Export.h"
#include "compiler/driver/Diagnostics.h"
#include "runtime/plan/DTypes.h"
#include "runtime/plan/PlanFile.h"
#include "runtime/trainer/Shards.h"
#include "runtime/trainer/Transpose.h"
#include "runtime/trainer/Weights.h"
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <map>
#include <onnx/onnx_pb.h>

namespace fs = std::filesystem;

namespace amc {
namespace {

constexpr uint64_t protobufLimit = (uint64_t(1) << 31) - (uint64_t(1) << 20);

plan::DType dtypeOf(int32_t onnxType) {
  switch (onnxType) {
  case onnx::TensorProto::FLOAT:
    return plan::F32;
  case onnx::TensorProto::BFLOAT16:
    return plan::BF16;
  case onnx::TensorProto::FLOAT16:
    return plan::F16;
  case onnx::TensorProto::DOUBLE:
    return plan::F64;
  default:
    return plan::DTYPE_UNSPECIFIED;
  }
}

class Exporter {
public:
  explicit Exporter(const ExportRequest &request)
      : request(request), outside(request.externalData) {}

  rt::Status run() {
    rt::Expected<plan::Plan> read = rt::readPlanFile(request.plan);
    if (!read.ok())
      return std::move(read).status();
    plan = std::move(*read);
    if (rt::Status status = keepsInputs(); !status.ok())
      return status;
    if (rt::Status status = readModel(); !status.ok())
      return status;
    if (rt::Status status = replaceWeights(); !status.ok())
      return status;
    return write();
  }

private:
  // The model may be replaced by the trained one; what it was trained with may not.
  rt::Status keepsInputs() const {
    std::error_code missing; // an output that is not there yet is none of these
    for (const std::string &output : {request.output, request.output + ".data"})
      for (const std::string *input : {&request.plan, &request.checkpoint})
        if (fs::equivalent(output, *input, missing))
          return rt::inputError(output, ": is read by this command, should be another file");
    return rt::Status();
  }

  rt::Status readModel() {
    modelPath = request.model.empty() ? (fs::path(rt::findModelDirectory(request.plan, plan)) /
                                         fs::path(plan.model_path()).filename())
                                            .lexically_normal()
                                            .string()
                                      : request.model;
    rt::Expected<std::string> bytes = rt::readWholeFile(modelPath, uint64_t(1) << 31);
    if (!bytes.ok())
      return rt::Status(static_cast<rt::ErrorKind>(bytes.status().exitCode()),
                        bytes.status().message() +
                            "; --model names the original model if it has moved");
    google::protobuf::io::ArrayInputStream stream(bytes->data(), static_cast<int>(bytes->size()));
    if (!model.ParseFromZeroCopyStream(&stream))
      return rt::inputError(modelPath, ": is not an ONNX model");
    for (onnx::TensorProto &tensor : *model.mutable_graph()->mutable_initializer()) {
      initializers[tensor.name()] = &tensor;
      outside |= tensor.data_location() == onnx::TensorProto::EXTERNAL;
    }
    return rt::Status();
  }

  // Every weight under every name it has in the file. The first mismatches are reported together.
  rt::Status replaceWeights() {
    rt::Expected<std::unique_ptr<rt::StoredTensors>> checkpoint =
        rt::openWeights(request.checkpoint);
    if (!checkpoint.ok())
      return std::move(checkpoint).status();
    std::string errors;
    constexpr int shown = 5;
    int count = 0;
    for (const plan::Parameter &parameter : plan.parameters()) {
      std::vector<Wanted> wanted = {{parameter.name(), parameter.name(), {}}};
      for (const plan::TiedName &tied : parameter.tied())
        // A checkpoint of several ranks has a weight once, under its own name.
        wanted.push_back((*checkpoint)->find(tied.name())
                             ? Wanted{tied.name(), tied.name(), {}}
                             : Wanted{tied.name(), parameter.name(), rt::permutationOf(tied)});
      for (const Wanted &one : wanted)
        if (rt::Status status = replace(one, **checkpoint); !status.ok() && ++count <= shown)
          errors += (errors.empty() ? "" : "; ") + status.message();
    }
    if (count > shown)
      errors += "; and " + std::to_string(count - shown) + " more";
    return errors.empty() ? rt::Status() : rt::inputError(errors);
  }

  // An initializer, and the checkpoint's tensor that it is a transpose of.
  struct Wanted {
    std::string name, stored;
    std::vector<uint32_t> permutation;
  };

  rt::Status replace(const Wanted &wanted, const rt::StoredTensors &checkpoint) {
    const std::string &name = wanted.name;
    auto found = initializers.find(name);
    if (found == initializers.end())
      return rt::inputError(modelPath, " has no initializer '", name,
                            "', so it is not the model of this plan");
    onnx::TensorProto &tensor = *found->second;
    const rt::TensorInfo *trained = checkpoint.find(wanted.stored);
    if (!trained)
      return rt::inputError(checkpoint.path(), " has no tensor '", name, "'");
    rt::Shape shape(tensor.dims().begin(), tensor.dims().end());
    if (!rt::TransposedLayout::valid(trained->shape, wanted.permutation))
      return rt::inputError(request.plan, ": the permutation of '", name,
                            "' is none of the axes of '", wanted.stored, "' in ",
                            checkpoint.path());
    rt::Shape given = rt::TransposedLayout(trained->shape, wanted.permutation).storedShape();
    if (given != shape)
      return rt::inputError("'", name, "' is ", rt::shapeText(given), " in ", checkpoint.path(),
                            ", should be ", rt::shapeText(shape), " as in ", modelPath);
    plan::DType dtype = dtypeOf(tensor.data_type());
    if (dtype == plan::DTYPE_UNSPECIFIED)
      return rt::inputError("'", name, "' has ONNX data type ", tensor.data_type(),
                            ", which is no type of weights");
    std::string bytes(trained->elements * rt::dtypeBytes(dtype), '\0');
    if (rt::Status status = checkpoint.read(*trained, 0, trained->elements, dtype,
                                            reinterpret_cast<std::byte *>(bytes.data()));
        !status.ok())
      return status;
    if (!wanted.permutation.empty())
      bytes = transposed(bytes, rt::TransposedLayout(trained->shape, wanted.permutation),
                         rt::dtypeBytes(dtype));
    put(tensor, std::move(bytes));
    return rt::Status();
  }

  static std::string transposed(const std::string &bytes, const rt::TransposedLayout &layout,
                                uint64_t width) {
    std::string stored(bytes.size(), '\0');
    for (uint64_t i = 0; i < bytes.size() / width; ++i)
      std::copy_n(bytes.data() + layout.weightIndex(i) * width, width, stored.data() + i * width);
    return stored;
  }

  static void put(onnx::TensorProto &tensor, std::string bytes) {
    tensor.clear_float_data();
    tensor.clear_int32_data();
    tensor.clear_int64_data();
    tensor.clear_double_data();
    tensor.clear_uint64_data();
    tensor.clear_external_data();
    tensor.clear_data_location();
    tensor.set_raw_data(std::move(bytes));
  }

  // The bytes of an initializer that is no weight and lies outside the model.
  rt::Status bringIn(onnx::TensorProto &tensor) {
    std::string location;
    uint64_t offset = 0, length = 0;
    bool hasLength = false;
    for (const onnx::StringStringEntryProto &entry : tensor.external_data()) {
      if (entry.key() == "location")
        location = entry.value();
      else if (entry.key() == "offset")
        offset = std::strtoull(entry.value().c_str(), nullptr, 10);
      else if (entry.key() == "length") {
        length = std::strtoull(entry.value().c_str(), nullptr, 10);
        hasLength = true;
      }
    }
    std::error_code code;
    fs::path folder = fs::weakly_canonical(fs::absolute(modelPath).parent_path(), code);
    fs::path file = fs::weakly_canonical(folder / location, code);
    fs::path relative = file.lexically_relative(folder);
    if (code || relative.empty() || *relative.begin() == "..")
      return rt::inputError("'", tensor.name(), "' lies in '", location,
                            "', outside the model's folder");
    rt::Expected<rt::InputFile> input = rt::InputFile::open(file.string());
    if (!input.ok())
      return std::move(input).status().withContext("initializer '" + tensor.name() + "'");
    if (!hasLength)
      length = input->size() - std::min(offset, input->size());
    if (!rt::rangeFits(offset, length, input->size()))
      return rt::inputError("'", tensor.name(), "' is ", length, " bytes at ", offset, " of ",
                            file.string(), ", which has ", input->size());
    std::string bytes(length, '\0');
    if (rt::Status status = input->readAt(offset, std::as_writable_bytes(std::span(bytes)));
        !status.ok())
      return status;
    put(tensor, std::move(bytes));
    return rt::Status();
  }

  rt::Status write() {
    uint64_t rawBytes = 0;
    for (onnx::TensorProto &tensor : *model.mutable_graph()->mutable_initializer()) {
      if (tensor.data_location() == onnx::TensorProto::EXTERNAL)
        if (rt::Status status = bringIn(tensor); !status.ok())
          return status;
      rawBytes += tensor.raw_data().size();
    }
    outside |= rawBytes > protobufLimit;

    std::string dataPath = request.output + ".data";
    std::optional<rt::OutputFile> data;
    if (outside) {
      rt::Expected<rt::OutputFile> file = rt::OutputFile::create(dataPath);
      if (!file.ok())
        return std::move(file).status();
      data.emplace(std::move(*file));
      if (rt::Status status = moveOut(*data); !status.ok())
        return status;
    }
    rt::Expected<std::string> bytes = serialize();
    if (!bytes.ok())
      return std::move(bytes).status();
    rt::Expected<rt::OutputFile> file = rt::OutputFile::create(request.output);
    if (!file.ok())
      return std::move(file).status();
    if (rt::Status status = file->writeAt(0, std::as_bytes(std::span(*bytes))); !status.ok())
      return status;
    // The model last, and once all of it is on the disk: whoever finds it finds its weights too.
    if (rt::Status status = file->flush(); !status.ok())
      return status;
    if (data)
      if (rt::Status status = data->commit(); !status.ok())
        return status;
    if (rt::Status status = file->commit(); !status.ok())
      return status;
    std::fprintf(stderr, "%s%s written: %s with %d trained weights of %s\n", request.output.c_str(),
                 data ? (" and " + dataPath).c_str() : "", modelPath.c_str(), trainedWeights(),
                 request.checkpoint.c_str());
    return rt::Status();
  }

  int trainedWeights() const {
    return static_cast<int>(std::count_if(plan.parameters().begin(), plan.parameters().end(),
                                          [](const auto &p) { return p.trainable(); }));
  }

  // Everything of a kibibyte and more goes to the data file, at multiples of 64 bytes.
  rt::Status moveOut(rt::OutputFile &data) {
    uint64_t offset = 0;
    for (onnx::TensorProto &tensor : *model.mutable_graph()->mutable_initializer()) {
      const std::string &bytes = tensor.raw_data();
      if (bytes.size() < 1024)
        continue;
      if (rt::Status status = data.writeAt(offset, std::as_bytes(std::span(bytes))); !status.ok())
        return status;
      auto entry = [&](const char *key, const std::string &value) {
        onnx::StringStringEntryProto *pair = tensor.add_external_data();
        pair->set_key(key);
        pair->set_value(value);
      };
      entry("location", fs::path(request.output + ".data").filename().string());
      entry("offset", std::to_string(offset));
      entry("length", std::to_string(bytes.size()));
      offset = (offset + bytes.size() + 63) / 64 * 64;
      tensor.clear_raw_data();
      tensor.set_data_location(onnx::TensorProto::EXTERNAL);
    }
    return rt::Status();
  }

  rt::Expected<std::string> serialize() {
    uint64_t length = model.ByteSizeLong();
    if (length > protobufLimit)
      return rt::limitError(request.output, ": the graph alone would have ", length,
                            " bytes and should have at most ", protobufLimit);
    std::string bytes(length, '\0');
    google::protobuf::io::ArrayOutputStream stream(bytes.data(), static_cast<int>(length));
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    if (!model.SerializeToCodedStream(&coded))
      return rt::inputError(modelPath, ": cannot be serialised");
    return bytes;
  }

  const ExportRequest &request;
  plan::Plan plan;
  std::string modelPath;
  onnx::ModelProto model;
  std::map<std::string, onnx::TensorProto *> initializers;
  bool outside; // the weights go to a file beside the model
};

} // namespace

int exportModel(const ExportRequest &request) {
  rt::Status status = Exporter(request).run();
  if (!status.ok())
    printMessage({Message::Error, "", status.message(), {}});
  return status.exitCode();
}

} // namespace amc
