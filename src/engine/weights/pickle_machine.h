// The part of the pickle virtual machine that builds plain data; nothing in it calls code.
// https://docs.python.org/3/library/pickletools.html
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "engine/tensor/dtype.h"

namespace darkroom::engine {

// All values of a pickle lie in one vector and refer to each other by index, so that no depth of nesting can recurse.
using PickleIndex = std::uint32_t;

struct PickleValue {
  enum class Kind : std::uint8_t { none, boolean, integer, real, text, list, tuple, dict, global, storage, tensor };
  Kind kind = Kind::none;
  DType dtype = DType::f32;          // storage
  std::int64_t integer = 0;          // boolean, integer; storage: elements; tensor: offset in elements
  std::string_view text{};           // text; global: its module; storage: its key
  std::string_view name{};           // global: its name
  std::vector<PickleIndex> items{};  // list, tuple; dict: key, value, key, value, …; tensor: storage, sizes, strides
};

class PickleMachine {
 public:
  // Values view the bytes. `file` is what messages call them.
  PickleMachine(std::span<const std::byte> bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}

  // Runs from where the last run ended to the next STOP; gives the value that is left.
  Result<PickleIndex> run();

  const PickleValue& operator[](PickleIndex index) const { return values_[index]; }
  PickleIndex size() const { return static_cast<PickleIndex>(values_.size()); }
  std::size_t position() const { return position_; }  // bytes read

 private:
  using Kind = PickleValue::Kind;

  // One opcode; false: error_ says why not.
  bool step(std::uint8_t opcode);
  bool reduce();
  bool build();
  bool persistent_load();
  bool call(const PickleValue& global, const std::vector<PickleIndex>& arguments);
  bool make_ordered_dict(const std::vector<PickleIndex>& arguments);
  bool make_tensor(const std::vector<PickleIndex>& arguments);

  bool refuse(ErrorCode code, const std::string& what);
  // The next bytes; empty, with the error set, if there are not that many.
  std::optional<std::span<const std::byte>> take(std::uint64_t count);
  std::optional<std::uint64_t> take_number(int count);  // little-endian
  std::optional<std::string_view> take_line();
  bool push(PickleValue value);
  bool push_text(int length_bytes);
  bool push_long(std::uint64_t count);                 // of its bytes
  bool push_collection(Kind kind, std::size_t count);  // of the top of the stack
  std::optional<PickleIndex> pop();
  std::optional<std::size_t> pop_mark();                // values above it
  bool extend(Kind kind, std::size_t count, int step);  // moves the top of the stack into the collection below it
  bool memoize(std::uint64_t key);
  bool recall(std::uint64_t key);

  std::span<const std::byte> bytes_;
  std::string file_;
  std::size_t position_ = 0;
  std::vector<PickleValue> values_;
  std::vector<PickleIndex> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, PickleIndex> memo_;
  std::size_t copied_ = 0;  // items that calls have copied
  std::optional<Error> error_;
};

}  // namespace darkroom::engine
