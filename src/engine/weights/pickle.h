// Tensors out of torch.save() files (.ckpt, .pth, .pt, .bin): the zip container and the older plain one.
// The pickle inside is a program for Python; this reader runs a small, fixed part of it, which only builds
// containers and tensors, and refuses everything else by name. It calls no code.
// Twin: torch/_weights_only_unpickler.py.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/tensor/tensor.h"

namespace darkroom::engine {

// Whether a file begins like one of torch.save().
bool is_torch_file(std::span<const std::byte> bytes);

// Every tensor of the file; `owner` keeps the bytes alive. Names are the keys of nested dictionaries, joined by dots;
// what lies in the one dictionary "state_dict", "params_ema" or "params" is named from there on.
// Errors: corrupt_data; unsupported (an opcode or a global that plain tensors do not need).
Result<std::vector<HostTensor>> read_torch_file(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                                const std::string& name);

}  // namespace darkroom::engine
