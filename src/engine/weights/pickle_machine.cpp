#include "engine/weights/pickle_machine.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "engine/tensor/tensor.h"
#include "engine/weights/printable.h"

namespace darkroom::engine {

namespace {

constexpr std::size_t kMaxPickleBytes = 64U << 20;
constexpr std::size_t kMaxValues = 4'000'000;  // a checkpoint has some 25 a tensor

// NOLINTBEGIN(readability-identifier-naming): constants, held against bytes
enum Opcode : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyTuple = ')',
  kEmptyList = ']',
  kEmptyDict = '}',
  kBinFloat = 'G',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8A,
  kLong4 = 0x8B,
  kShortBinUnicode = 0x8C,
  kBinUnicode8 = 0x8D,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};
// NOLINTEND(readability-identifier-naming)

struct StorageClass {
  std::string_view name;
  DType dtype;
};
constexpr std::array<StorageClass, 10> kStorages{{{"FloatStorage", DType::f32},
                                                  {"HalfStorage", DType::f16},
                                                  {"BFloat16Storage", DType::bf16},
                                                  {"DoubleStorage", DType::f64},
                                                  {"LongStorage", DType::i64},
                                                  {"IntStorage", DType::i32},
                                                  {"ShortStorage", DType::i16},
                                                  {"CharStorage", DType::i8},
                                                  {"ByteStorage", DType::u8},
                                                  {"BoolStorage", DType::boolean}}};

// Everything that a global may name.
bool is_allowed(std::string_view module, std::string_view name) {
  if (module == "torch._utils") {
    return name == "_rebuild_tensor_v2" || name == "_rebuild_tensor" || name == "_rebuild_parameter";
  }
  if (module == "collections") return name == "OrderedDict";
  if (module == "torch")
    return name == "Size" || std::ranges::find(kStorages, name, &StorageClass::name) != kStorages.end();
  return false;
}

}  // namespace

bool PickleMachine::refuse(ErrorCode code, const std::string& what) {
  if (!error_) error_ = Error{code, fmt::format("{}: {} (at byte {} of the pickle)", file_, what, position_)};
  return false;
}

std::optional<std::span<const std::byte>> PickleMachine::take(std::uint64_t count) {
  if (count > bytes_.size() - position_) {
    refuse(ErrorCode::corrupt_data, "the pickle is truncated");
    return std::nullopt;
  }
  const auto taken = bytes_.subspan(position_, count);
  position_ += count;
  return taken;
}

std::optional<std::uint64_t> PickleMachine::take_number(int count) {
  const auto bytes = take(static_cast<std::uint64_t>(count));
  if (!bytes) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = bytes->size(); i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>((*bytes)[i]);
  return value;
}

std::optional<std::string_view> PickleMachine::take_line() {
  const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + position_, bytes_.size() - position_);
  const std::size_t end = rest.substr(0, 4096).find('\n');
  if (end == std::string_view::npos) {
    refuse(ErrorCode::corrupt_data, "a name in the pickle does not end");
    return std::nullopt;
  }
  position_ += end + 1;
  return rest.substr(0, end);
}

bool PickleMachine::push(PickleValue value) {
  if (values_.size() >= kMaxValues) {
    return refuse(ErrorCode::corrupt_data, fmt::format("the pickle has more than {} values", kMaxValues));
  }
  stack_.push_back(static_cast<PickleIndex>(values_.size()));
  values_.push_back(std::move(value));
  return true;
}

bool PickleMachine::push_text(int length_bytes) {
  const auto length = take_number(length_bytes);
  const auto bytes = length ? take(*length) : std::nullopt;
  return bytes && push({.kind = Kind::text, .text = {reinterpret_cast<const char*>(bytes->data()), bytes->size()}});
}

// A signed number of any length; one of more than 64 bits (torch's magic number) keeps only its place.
bool PickleMachine::push_long(std::uint64_t count) {
  const auto bytes = take(count);
  if (!bytes) return false;
  if (count > 8) return push({.kind = Kind::real});
  std::uint64_t value = count > 0 && (std::to_integer<unsigned>(bytes->back()) & 0x80U) != 0 ? ~std::uint64_t{0} : 0;
  for (std::size_t i = bytes->size(); i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>((*bytes)[i]);
  return push({.kind = Kind::integer, .integer = static_cast<std::int64_t>(value)});
}

std::optional<PickleIndex> PickleMachine::pop() {
  // What lies below a mark is not this opcode's.
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    refuse(ErrorCode::corrupt_data, "the pickle takes from an empty stack");
    return std::nullopt;
  }
  const PickleIndex top = stack_.back();
  stack_.pop_back();
  return top;
}

std::optional<std::size_t> PickleMachine::pop_mark() {
  if (marks_.empty()) {
    refuse(ErrorCode::corrupt_data, "the pickle lacks a mark");
    return std::nullopt;
  }
  const std::size_t count = stack_.size() - marks_.back();
  marks_.pop_back();
  return count;
}

bool PickleMachine::push_collection(Kind kind, std::size_t count) {
  if (count > stack_.size() - (marks_.empty() ? 0 : marks_.back())) {
    return refuse(ErrorCode::corrupt_data, "the pickle takes from an empty stack");
  }
  const auto begin = stack_.end() - static_cast<std::ptrdiff_t>(count);
  PickleValue value{.kind = kind};
  value.items.assign(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  return push(std::move(value));
}

bool PickleMachine::extend(Kind kind, std::size_t count, int step) {
  if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < count + 1) {
    return refuse(ErrorCode::corrupt_data, "the pickle takes from an empty stack");
  }
  if (count % static_cast<std::size_t>(step) != 0) {
    return refuse(ErrorCode::corrupt_data, "a key of the pickle lacks its value");
  }
  const auto begin = stack_.end() - static_cast<std::ptrdiff_t>(count);
  PickleValue& target = values_[*(begin - 1)];
  if (target.kind != kind) return refuse(ErrorCode::corrupt_data, "the pickle adds to what is no collection");
  target.items.insert(target.items.end(), begin, stack_.end());
  stack_.erase(begin, stack_.end());
  return true;
}

bool PickleMachine::memoize(std::uint64_t key) {
  if (stack_.empty()) return refuse(ErrorCode::corrupt_data, "the pickle takes from an empty stack");
  memo_[key] = stack_.back();
  return true;
}

bool PickleMachine::recall(std::uint64_t key) {
  const auto found = memo_.find(key);
  if (found == memo_.end()) return refuse(ErrorCode::corrupt_data, fmt::format("the pickle has no value {}", key));
  stack_.push_back(found->second);
  return true;
}

// ('storage', class, key, location, elements), from torch before 1.6 with a view's place after it.
bool PickleMachine::persistent_load() {
  const auto id = pop();
  if (!id) return false;
  const PickleValue& value = values_[*id];
  const auto item = [&](std::size_t i) -> const PickleValue& { return values_[value.items[i]]; };
  if (value.kind != Kind::tuple || value.items.size() < 5 || item(0).kind != Kind::text || item(0).text != "storage" ||
      item(1).kind != Kind::global || item(2).kind != Kind::text || item(4).kind != Kind::integer) {
    return refuse(ErrorCode::corrupt_data, "a reference of the pickle is not to a storage");
  }
  if (value.items.size() > 5 && item(5).kind != Kind::none) {
    return refuse(ErrorCode::unsupported, "views of storages, from torch before 0.4, are not read");
  }
  const auto* const type = std::ranges::find(kStorages, item(1).name, &StorageClass::name);
  if (type == kStorages.end()) {
    return refuse(ErrorCode::corrupt_data, fmt::format("'{}' is no class of storages", printable(item(1).name)));
  }
  if (item(4).integer < 0)
    return refuse(ErrorCode::corrupt_data, fmt::format("a storage of {} elements", item(4).integer));
  return push({.kind = Kind::storage, .dtype = type->dtype, .integer = item(4).integer, .text = item(2).text});
}

bool PickleMachine::reduce() {
  const auto arguments = pop();
  const auto callee = arguments ? pop() : std::nullopt;
  if (!callee) return false;
  if (values_[*callee].kind != Kind::global || values_[*arguments].kind != Kind::tuple) {
    return refuse(ErrorCode::corrupt_data, "the pickle calls what is no function");
  }
  // Copies: the call adds to the vector that these lie in.
  const PickleValue global = values_[*callee];
  const std::vector<PickleIndex> items = values_[*arguments].items;
  return call(global, items);
}

bool PickleMachine::call(const PickleValue& global, const std::vector<PickleIndex>& arguments) {
  if (global.name == "OrderedDict") return make_ordered_dict(arguments);
  if (global.name == "_rebuild_tensor_v2" || global.name == "_rebuild_tensor") return make_tensor(arguments);
  const bool is_parameter = global.name == "_rebuild_parameter";
  if ((is_parameter || global.name == "Size") && !arguments.empty() &&
      values_[arguments[0]].kind == (is_parameter ? Kind::tensor : Kind::tuple)) {
    stack_.push_back(arguments[0]);
    return true;
  }
  return refuse(ErrorCode::corrupt_data,
                fmt::format("a call of {}.{} with other than its arguments", global.text, global.name));
}

bool PickleMachine::make_ordered_dict(const std::vector<PickleIndex>& arguments) {
  PickleValue dict{.kind = Kind::dict};
  if (!arguments.empty()) {
    const PickleValue& pairs = values_[arguments[0]];
    if (arguments.size() > 1 || pairs.kind != Kind::list) {
      return refuse(ErrorCode::corrupt_data, "a call of collections.OrderedDict with other than its arguments");
    }
    copied_ += pairs.items.size();
    if (copied_ > kMaxValues) return refuse(ErrorCode::corrupt_data, "the pickle copies too much");
    for (const PickleIndex index : pairs.items) {
      const PickleValue& pair = values_[index];
      if ((pair.kind != Kind::tuple && pair.kind != Kind::list) || pair.items.size() != 2) {
        return refuse(ErrorCode::corrupt_data, "an item of an OrderedDict is not a key and a value");
      }
      dict.items.insert(dict.items.end(), pair.items.begin(), pair.items.end());
    }
  }
  return push(std::move(dict));
}

// storage, offset, sizes, strides, …: what follows (gradients, hooks) does not matter here.
bool PickleMachine::make_tensor(const std::vector<PickleIndex>& arguments) {
  const auto is_whole_numbers = [&](PickleIndex index) {
    const PickleValue& value = values_[index];
    return value.kind == Kind::tuple && value.items.size() <= kMaxRank &&
           std::ranges::all_of(value.items, [&](PickleIndex i) { return values_[i].kind == Kind::integer; });
  };
  if (arguments.size() < 4 || values_[arguments[0]].kind != Kind::storage ||
      values_[arguments[1]].kind != Kind::integer || !is_whole_numbers(arguments[2]) ||
      !is_whole_numbers(arguments[3]) || values_[arguments[2]].items.size() != values_[arguments[3]].items.size()) {
    return refuse(ErrorCode::corrupt_data, "a tensor of the pickle is not made of storage, offset, size and stride");
  }
  return push({.kind = Kind::tensor,
               .integer = values_[arguments[1]].integer,
               .items = {arguments[0], arguments[2], arguments[3]}});
}

// A state_dict carries its version in attributes, which do not matter here.
bool PickleMachine::build() {
  if (!pop()) return false;
  const auto object = pop();
  if (!object) return false;
  if (values_[*object].kind != Kind::dict) {
    return refuse(ErrorCode::unsupported, "the pickle sets the state of an object other than a dictionary");
  }
  stack_.push_back(*object);
  return true;
}

bool PickleMachine::step(std::uint8_t opcode) {
  const auto signed32 = [](std::uint64_t value) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(value));
  };
  const auto with_number = [&](int bytes, auto use) {
    const auto value = take_number(bytes);
    return value && use(*value);
  };
  const auto push_integer = [&](std::int64_t value) { return push({.kind = Kind::integer, .integer = value}); };
  const auto above_mark = [&](auto use) {
    const auto count = pop_mark();
    return count && use(*count);
  };
  const auto push_global = [&](std::string_view module, std::string_view name) {
    if (!is_allowed(module, name)) {
      return refuse(ErrorCode::unsupported, fmt::format("the pickle names '{}', which plain tensors do not need",
                                                        printable(fmt::format("{}.{}", module, name))));
    }
    return push({.kind = Kind::global, .text = module, .name = name});
  };

  switch (opcode) {
    case kProto:
      return with_number(1, [&](auto version) {
        return version <= 5 || refuse(ErrorCode::unsupported, fmt::format("pickle protocol {}", version));
      });
    case kFrame:
      return take(8).has_value();
    case kMark:
      marks_.push_back(stack_.size());
      return true;
    case kPop:
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
        return true;
      }
      return pop().has_value();
    case kPopMark:
      return above_mark([&](std::size_t count) {
        stack_.resize(stack_.size() - count);
        return true;
      });
    case kDup: {
      const auto top = pop();
      if (!top) return false;
      stack_.insert(stack_.end(), 2, *top);
      return true;
    }
    case kNone:
      return push({});
    case kNewTrue:
      return push({.kind = Kind::boolean, .integer = 1});
    case kNewFalse:
      return push({.kind = Kind::boolean});
    case kBinInt:
      return with_number(4, [&](auto value) { return push_integer(signed32(value)); });
    case kBinInt1:
      return with_number(1, push_integer);
    case kBinInt2:
      return with_number(2, push_integer);
    case kLong1:
      return with_number(1, [&](auto count) { return push_long(count); });
    case kLong4:
      return with_number(4, [&](auto count) { return push_long(count); });
    case kBinFloat:
      return take(8) && push({.kind = Kind::real});
    case kShortBinString:
    case kShortBinBytes:
    case kShortBinUnicode:
      return push_text(1);
    case kBinString:
    case kBinBytes:
    case kBinUnicode:
      return push_text(4);
    case kBinUnicode8:
      return push_text(8);
    case kEmptyTuple:
      return push({.kind = Kind::tuple});
    case kEmptyList:
      return push({.kind = Kind::list});
    case kEmptyDict:
      return push({.kind = Kind::dict});
    case kTuple:
      return above_mark([&](std::size_t count) { return push_collection(Kind::tuple, count); });
    case kTuple1:
    case kTuple2:
    case kTuple3:
      return push_collection(Kind::tuple, opcode - kTuple1 + 1U);
    case kAppend:
      return extend(Kind::list, 1, 1);
    case kAppends:
      return above_mark([&](std::size_t count) { return extend(Kind::list, count, 1); });
    case kSetItem:
      return extend(Kind::dict, 2, 2);
    case kSetItems:
      return above_mark([&](std::size_t count) { return extend(Kind::dict, count, 2); });
    case kBinPut:
      return with_number(1, [&](auto key) { return memoize(key); });
    case kLongBinPut:
      return with_number(4, [&](auto key) { return memoize(key); });
    case kMemoize:
      return memoize(memo_.size());
    case kBinGet:
      return with_number(1, [&](auto key) { return recall(key); });
    case kLongBinGet:
      return with_number(4, [&](auto key) { return recall(key); });
    case kGlobal: {
      const auto module = take_line();
      const auto name = module ? take_line() : std::nullopt;
      return name && push_global(*module, *name);
    }
    case kStackGlobal: {
      const auto name = pop();
      const auto module = name ? pop() : std::nullopt;
      if (!module) return false;
      if (values_[*name].kind != Kind::text || values_[*module].kind != Kind::text) {
        return refuse(ErrorCode::corrupt_data, "a global's name is not text");
      }
      return push_global(values_[*module].text, values_[*name].text);
    }
    case kReduce:
      return reduce();
    case kBuild:
      return build();
    case kBinPersId:
      return persistent_load();
    default:
      return refuse(ErrorCode::unsupported,
                    fmt::format("the pickle has the opcode 0x{:02X}, which plain tensors do not need", opcode));
  }
}

Result<PickleIndex> PickleMachine::run() {
  stack_.clear();
  marks_.clear();
  memo_.clear();
  const std::size_t begin = position_;
  while (true) {
    if (position_ - begin > kMaxPickleBytes) {
      refuse(ErrorCode::corrupt_data, fmt::format("the pickle is longer than {} bytes", kMaxPickleBytes));
      return tl::unexpected(*error_);
    }
    const auto opcode = take_number(1);
    if (opcode && *opcode == kStop) break;
    if (!opcode || !step(static_cast<std::uint8_t>(*opcode))) return tl::unexpected(*error_);
  }
  const auto result = pop();
  if (!result) return tl::unexpected(*error_);
  return *result;
}

}  // namespace darkroom::engine
