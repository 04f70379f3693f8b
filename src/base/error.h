// Errors: what went wrong, in a closed set of codes, and the two ways it travels.
//   Result<T>  where the world or the caller is wrong: readers, decoders, the whole service.
//   Failure    thrown inside the engine when a job cannot go on; caught once, in the worker's job runner.
//   DR_ASSERT  where we are wrong: aborts the process, and the supervisor restarts a worker.
#pragma once

#include <array>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <tl/expected.hpp>

#include "base/enum_names.h"

namespace darkroom {

// A new code needs a caller that acts on it.
enum class ErrorCode : std::uint8_t {
  invalid_argument,  // the request or an option is wrong
  not_found,         // a named model, file or job does not exist
  conflict,          // the state does not allow it
  overloaded,        // a queue, quota or budget is full
  unsupported,       // understood, but this build or this model cannot do it
  corrupt_data,      // a file is damaged or not what it claims to be
  out_of_memory,
  cancelled,
  timed_out,
  worker_lost,
  internal,
};

constexpr auto enum_names(ErrorCode) {
  using enum ErrorCode;
  return std::to_array<EnumName<ErrorCode>>({{"invalid_argument", invalid_argument},
                                             {"not_found", not_found},
                                             {"conflict", conflict},
                                             {"overloaded", overloaded},
                                             {"unsupported", unsupported},
                                             {"corrupt_data", corrupt_data},
                                             {"out_of_memory", out_of_memory},
                                             {"cancelled", cancelled},
                                             {"timed_out", timed_out},
                                             {"worker_lost", worker_lost},
                                             {"internal", internal}});
}

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;  // the thing, and the two values that disagree
};

template <class T>
using Result = tl::expected<T, Error>;

template <class... Args>
tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// Ends the running job. Only the engine throws it.
class Failure : public std::exception {
 public:
  explicit Failure(Error error) : error_(std::move(error)) {}
  const Error& error() const noexcept { return error_; }
  const char* what() const noexcept override { return error_.message.c_str(); }

 private:
  Error error_;
};

template <class... Args>
[[noreturn]] void throw_failure(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// The value, or its error thrown as a Failure: the door from Result code into the engine.
template <class T>
T value_or_throw(Result<T>&& result) {
  if (!result) throw Failure(std::move(result.error()));
  return std::move(*result);
}

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace darkroom

#define DR_ASSERT(expression) \
  ((expression) ? static_cast<void>(0) : ::darkroom::assertion_failed(#expression, __FILE__, __LINE__))
