#include "service/telemetry/metrics.h"

#include <mutex>
#include <utility>

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace darkroom {
namespace {

const prometheus::Histogram::BucketBoundaries kSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                          1,     2.5,    5,     10,   30,    60,   120, 300,  600};

prometheus::MetricFamily to_prometheus(MetricFamily&& family) {
  prometheus::MetricFamily out;
  out.name = std::move(family.name);
  out.help = std::move(family.help);
  out.type = family.kind == MetricKind::counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
  for (MetricSample& sample : family.samples) {
    prometheus::ClientMetric metric;
    for (auto& [name, value] : sample.labels) metric.label.push_back({name, value});
    if (family.kind == MetricKind::counter) {
      metric.counter.value = sample.value;
    } else {
      metric.gauge.value = sample.value;
    }
    out.metric.push_back(std::move(metric));
  }
  return out;
}

}  // namespace

class Metrics::Registry {
 public:
  prometheus::Counter& counter(const std::string& name, const std::string& help, const MetricLabels& labels) {
    const std::lock_guard lock(mutex_);
    auto& family = counters_[name];
    if (family == nullptr) family = &prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
    return family->Add(labels);
  }

  prometheus::Histogram& histogram(const std::string& name, const std::string& help, const MetricLabels& labels) {
    const std::lock_guard lock(mutex_);
    auto& family = histograms_[name];
    if (family == nullptr) family = &prometheus::BuildHistogram().Name(name).Help(help).Register(registry_);
    return family->Add(labels, kSeconds);
  }

  void add_source(std::function<std::vector<MetricFamily>()> source) {
    const std::lock_guard lock(mutex_);
    sources_.push_back(std::move(source));
  }

  std::string text() {
    std::vector<prometheus::MetricFamily> families = registry_.Collect();
    for (const auto& source : sources()) {
      for (MetricFamily& family : source()) families.push_back(to_prometheus(std::move(family)));
    }
    return prometheus::TextSerializer().Serialize(families);
  }

 private:
  std::vector<std::function<std::vector<MetricFamily>()>> sources() {
    const std::lock_guard lock(mutex_);
    return sources_;
  }

  prometheus::Registry registry_;
  std::mutex mutex_;  // over what follows
  std::map<std::string, prometheus::Family<prometheus::Counter>*> counters_;
  std::map<std::string, prometheus::Family<prometheus::Histogram>*> histograms_;
  std::vector<std::function<std::vector<MetricFamily>()>> sources_;
};

Metrics::Metrics() : registry_(std::make_unique<Registry>()) {}
Metrics::~Metrics() = default;

void Metrics::count(const std::string& name, const std::string& help, const MetricLabels& labels, double by) {
  registry_->counter(name, help, labels).Increment(by);
}

void Metrics::observe_seconds(const std::string& name, const std::string& help, const MetricLabels& labels,
                              double seconds) {
  registry_->histogram(name, help, labels).Observe(seconds);
}

void Metrics::add_source(std::function<std::vector<MetricFamily>()> source) {
  registry_->add_source(std::move(source));
}

std::string Metrics::text() const { return registry_->text(); }

}  // namespace darkroom
