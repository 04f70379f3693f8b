// Any bytes as a torch.save() file, and as the pickle inside of one.
#include "engine/weights/pickle.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace {

std::string little(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i, value >>= 8) text.push_back(static_cast<char>(value & 0xFF));
  return text;
}

// A zip of data.pkl and one storage, so that the fuzzer need not find out zip.
std::string zipped(const std::string& pickle) {
  std::string file;
  std::string directory;
  for (const auto& [name, data] :
       {std::pair<std::string, std::string>("x/data.pkl", pickle), {"x/data/0", std::string(64, '\1')}}) {
    const std::string sizes = little(0, 4) + little(data.size(), 4) + little(data.size(), 4) + little(name.size(), 2);
    directory += "PK\x01\x02" + little(0, 8) + little(0, 4) + sizes + little(0, 12) + little(file.size(), 4) + name;
    file += "PK\x03\x04" + little(0, 10) + sizes + little(0, 2) + name + data;
  }
  return file + directory + "PK\x05\x06" + little(0, 4) + little(2, 2) + little(2, 2) + little(directory.size(), 4) +
         little(file.size(), 4) + little(0, 2);
}

void check(const std::string& bytes) {
  const auto tensors = darkroom::engine::read_torch_file(std::as_bytes(std::span(bytes)), nullptr, "fuzz");
  if (!tensors) return;
  unsigned sum = 0;  // every byte is touched: the sanitizer sees what is outside
  for (const auto& tensor : *tensors) {
    for (std::size_t i = 0; i < tensor.bytes(); ++i) sum += std::to_integer<unsigned>(tensor.data[i]);
  }
  if (sum == ~0U) std::abort();  // never, but the compiler cannot know
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  check(bytes);
  check(zipped(bytes));
  return 0;
}
