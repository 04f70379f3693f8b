// Safetensors files: https://huggingface.co/docs/safetensors (8-byte header length, JSON header, data).
// A file is a stranger's: every length, offset and shape is checked before anything is believed.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/mapped_file.h"
#include "engine/tensor/tensor.h"

namespace darkroom::engine {

using TensorMetadata = std::map<std::string, std::string, std::less<>>;

class SafetensorsFile {
 public:
  // Maps the file and reads its header; no data is touched. Errors: those of MappedFile, corrupt_data,
  // unsupported (an element type of the format that the engine has not).
  static Result<SafetensorsFile> open(const std::filesystem::path& path);
  // The same of a file that is mapped already.
  static Result<SafetensorsFile> open(const std::shared_ptr<const MappedFile>& mapped);
  // The same of bytes in memory, which `owner` keeps alive; `name` is what messages call them.
  static Result<SafetensorsFile> parse(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                                       std::string name);

  const std::string& name() const { return name_; }
  // By offset in the file.
  const std::vector<HostTensor>& tensors() const { return tensors_; }
  // Null where there is none.
  const HostTensor* find(std::string_view name) const;
  // The header's __metadata__.
  const TensorMetadata& metadata() const { return metadata_; }
  std::size_t file_bytes() const { return file_bytes_; }

 private:
  std::string name_;
  std::vector<HostTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  TensorMetadata metadata_;
  std::size_t file_bytes_ = 0;
};

struct TensorSpec {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;

  std::size_t bytes() const { return static_cast<std::size_t>(shape.elements()) * size_of(dtype); }
};

// Writes a file whose tensors are too large to hold: the header first, then the data in the header's order.
// The file appears under its name, whole and on the disk, with finish(); until then it lies beside it under a
// temporary name, which the destructor removes.
class SafetensorsWriter {
 public:
  static Result<SafetensorsWriter> create(const std::filesystem::path& path, std::span<const TensorSpec> tensors,
                                          const TensorMetadata& metadata = {});
  SafetensorsWriter(SafetensorsWriter&&) = default;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = delete;
  ~SafetensorsWriter();

  // The next bytes, of any length.
  Result<void> write(std::span<const std::byte> data);
  // Error invalid_argument if other than the announced number of bytes was written.
  Result<void> finish();

 private:
  SafetensorsWriter() = default;
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  Fd file_;
  std::size_t bytes_left_ = 0;
};

Result<void> write_safetensors(const std::filesystem::path& path, std::span<const HostTensor> tensors,
                               const TensorMetadata& metadata = {});

}  // namespace darkroom::engine
