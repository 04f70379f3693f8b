// Requests with features put together at random, so that every two of them meet in some job.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/support/dice.h"

namespace darkroom {

struct RandomJob {
  std::set<std::string> features;  // by name
  nlohmann::json data;             // of an inference_request
};

// The same jobs for the same seed. Names of models and pictures are those of RandomJobs::models().
class RandomJobs {
 public:
  // without: features that this machine does not have.
  RandomJobs(std::uint64_t seed, std::set<std::string> without);

  RandomJob next();
  // Pairs that can be in one job and were in none so far: "lora + refiner".
  std::vector<std::string> missing_pairs() const;
  std::size_t pair_count() const { return possible_.size(); }

  // What must be in the models directories: a tiny model's name, or a file of the vectors, and where it goes.
  static std::vector<std::pair<std::string, std::string>> models();

 private:
  using Pair = std::pair<std::size_t, std::size_t>;
  bool fits(const std::set<std::size_t>& chosen, std::size_t feature) const;
  // With all that it needs; false, and nothing is added, where something does not fit.
  bool add(std::set<std::size_t>& chosen, std::size_t feature) const;
  std::set<std::size_t> choose();
  static std::vector<Pair> pairs_of(const std::set<std::size_t>& chosen);

  test::Dice dice_;
  std::set<std::string> without_;
  std::set<Pair> possible_;
  std::set<Pair> met_;
};

}  // namespace darkroom
