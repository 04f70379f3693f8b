// The flags of `darkroom generate` as the data of an inference_request: a flag is a row with the JSON pointer that it
// fills, so that what the decoder complains about can be told in the words of the command line.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/json_reader.h"

namespace CLI {
class App;
}

namespace darkroom {

class GenerateFlags {
 public:
  // What text to image needs.
  void add_text_to_image(CLI::App& app);
  // What steers a picture beyond its prompt.
  void add_steering(CLI::App& app);

  // The data of the request. Values that their flag cannot hold are complained about by flag.
  nlohmann::json data(std::vector<Complaint>& complaints) const;
  // The complaints of the decoder or a worker with flags for pointers.
  std::vector<Complaint> in_flags(std::vector<Complaint> complaints) const;

 private:
  // Turns the texts that a flag was given into the value at its pointer; the answer is what is wrong, or "".
  using Convert = std::string (*)(const std::vector<std::string>& texts, nlohmann::json& value);
  enum class Times : std::uint8_t { once, many };
  struct Row {
    std::string flag;
    std::string pointer;
    std::string help;
    std::string placeholder;  // "": the flag takes no value
    Convert convert;
    Times times = Times::once;
    std::string of_element;  // the i-th text fills this of the pointer's i-th element; "": the pointer itself
  };
  struct Given {
    Row row;
    std::vector<std::string> texts;  // empty: not given
  };
  void add(CLI::App& app, const char* group, const std::vector<Row>& rows);
  // How much of a pointer the flag fills: its length; nothing: it does not.
  static std::optional<std::size_t> filled(const Given& given, const std::string& pointer);

  std::deque<Given> flags_;  // the parser keeps addresses into it
};

}  // namespace darkroom
