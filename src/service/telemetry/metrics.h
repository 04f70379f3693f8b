// Figures for Prometheus: counted where things happen, or asked for when somebody looks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace darkroom {

using MetricLabels = std::map<std::string, std::string>;

enum class MetricKind : std::uint8_t { counter, gauge };

struct MetricSample {
  MetricLabels labels;
  double value = 0.0;
};

// One metric with its values, as a source gives them.
struct MetricFamily {
  std::string name;  // darkroom_..., counters end in _total
  std::string help;
  MetricKind kind = MetricKind::gauge;
  std::vector<MetricSample> samples;
};

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // These may be called from any thread. A name has one kind and one help, those of its first call.
  void count(const std::string& name, const std::string& help, const MetricLabels& labels, double by = 1.0);
  // Into buckets from a millisecond to ten minutes.
  void observe_seconds(const std::string& name, const std::string& help, const MetricLabels& labels, double seconds);

  // Asked at each look.
  void add_source(std::function<std::vector<MetricFamily>()> source);
  // The text format 0.0.4 of all of it.
  std::string text() const;

 private:
  class Registry;
  std::unique_ptr<Registry> registry_;
};

}  // namespace darkroom
