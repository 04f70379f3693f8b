// Lines that a worker must survive, made from good requests by a seed: the same ones everywhere.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/dice.h"

namespace darkroom::test {

// JSON texts that no reader of a request wants: wrong types, numbers past every range, what JSON does not have, lone
// surrogates, bytes that are not UTF-8, deep nesting.
inline std::vector<std::string> hostile_values() {
  std::vector<std::string> values = {"null",
                                     "true",
                                     "0",
                                     "-1",
                                     "-0",
                                     "1e308",
                                     "1e999",
                                     "-1e999",
                                     "4e-324",
                                     "18446744073709551615",
                                     "18446744073709551616",
                                     "-9223372036854775809",
                                     "99999999999999999999999999999999",
                                     "0.1e-9999",
                                     "NaN",
                                     "Infinity",
                                     "-Infinity",
                                     "nan",
                                     "01",
                                     "+1",
                                     "1.",
                                     ".5",
                                     "0x10",
                                     "1e",
                                     "''",
                                     "\"\"",
                                     "\"\\u0000\"",
                                     "\"\\ud800\"",
                                     "\"\\udc00\\ud800\"",
                                     "\"\\ud83d\\u0041\"",
                                     "\"\xff\xfe\"",
                                     "\"\xc0\x80\"",
                                     "\"\xed\xa0\x80\"",
                                     "\"\xf4\x90\x80\x80\"",
                                     "\"\\x41\"",
                                     "\"\t\"",
                                     "\"unfinished",
                                     "[]",
                                     "{}",
                                     "[[]]",
                                     "[null]",
                                     "[1,]",
                                     "{\"a\":1,}",
                                     "{\"a\":1,\"a\":2}",
                                     "{\"prompt\":{}}",
                                     "/* comment */ 1",
                                     "undefined",
                                     "True",
                                     "\"data:image/png;base64,====\"",
                                     "\"data:image/png;base64,iVBORw0KGgo=\"",
                                     "\"../../../../etc/passwd\"",
                                     "\"/dev/zero\"",
                                     "\"/proc/self/mem\"",
                                     "\"%s%s%s%n\"",
                                     "\"{}{0}{:>9999999}\""};
  values.emplace_back(10'000, '[');
  values.push_back(std::string(10'000, '[') + std::string(10'000, ']'));
  std::string objects;
  for (int i = 0; i < 10'000; ++i) objects += "{\"a\":";
  values.push_back(objects);
  values.push_back('"' + std::string(300'000, 'a') + '"');
  std::string many = "[0";
  for (int i = 0; i < 5000; ++i) many += ",0";
  values.push_back(many + "]");
  return values;
}

// One line, without a newline in it, made from the good ones.
inline std::string hostile_line(Dice& dice, const std::vector<std::string>& good,
                                const std::vector<std::string>& values) {
  std::string line = dice.of(good);
  const auto position = [&] { return dice.below(line.size()); };
  switch (dice.below(7)) {
    case 0: {  // a value replaced by what does not belong there; the text around it stays
      const nlohmann::json flat = nlohmann::json::parse(line).flatten();
      auto member = flat.begin();
      std::advance(member, static_cast<std::ptrdiff_t>(dice.below(flat.size())));
      nlohmann::json whole = nlohmann::json::parse(line);
      whole[nlohmann::json::json_pointer(member.key())] = "\x01here\x01";
      line = whole.dump();
      const std::string mark = "\"\\u0001here\\u0001\"";
      line.replace(line.find(mark), mark.size(), dice.of(values));
      break;
    }
    case 1: {  // bytes changed
      for (std::size_t n = 1 + dice.below(4); n > 0; --n) line[position()] = static_cast<char>(dice.below(256));
      break;
    }
    case 2:  // cut off
      line.resize(position());
      break;
    case 3: {  // a part doubled: keys stand twice, brackets do not fit
      const std::size_t from = position();
      line.insert(position(), line.substr(from, dice.below(60)));
      break;
    }
    case 4: {  // a part left out
      const std::size_t from = position();
      line.erase(from, dice.below(30));
      break;
    }
    case 5: {  // two lines run into one
      const std::string& other = dice.of(good);
      line = line.substr(0, position()) + other.substr(dice.below(other.size()));
      break;
    }
    default:  // something else altogether
      line = dice.of(values);
      break;
  }
  for (char& byte : line) {
    if (byte == '\n') byte = ' ';
  }
  return line;
}

}  // namespace darkroom::test
