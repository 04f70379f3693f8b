#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/json_text.h"
#include "service/telemetry/json_log.h"
#include "service/telemetry/metrics.h"

namespace darkroom {
namespace {

using testing::HasSubstr;

std::string written_by(const std::function<void(const JsonLog&)>& write) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe(ends.data()), 0);
  write(JsonLog(ends[1]));
  ::close(ends[1]);
  std::string text;
  std::array<char, 4096> chunk{};
  for (ssize_t got = 0; (got = ::read(ends[0], chunk.data(), chunk.size())) > 0;) text.append(chunk.data(), got);
  ::close(ends[0]);
  return text;
}

TEST(JsonLog, WritesOneObjectALineAlsoOfBytesThatAreNotUtf8) {
  const std::string text = written_by([](const JsonLog& log) {
    log.write(LogLevel::warning, "request", {{"path", "/a\n\xFF"}, {"status", 404}});
    log.write(LogLevel::error, "trouble");
  });
  const std::size_t end = text.find('\n');
  const Result<nlohmann::json> line = parse_json(text.substr(0, end));
  ASSERT_TRUE(line) << text;
  EXPECT_EQ((*line)["level"], "warning");
  EXPECT_EQ((*line)["event"], "request");
  EXPECT_EQ((*line)["path"], "/a\n\xEF\xBF\xBD");
  EXPECT_EQ((*line)["status"], 404);
  EXPECT_THAT((*line)["time"].get<std::string>(), testing::MatchesRegex("....-..-..T..:..:..\\....Z"));
  EXPECT_TRUE(parse_json(text.substr(end + 1)));
}

TEST(JsonLog, LeavesOutWhatIsBelowItsLevel) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const JsonLog log(ends[1], LogLevel::warning);
  log.write(LogLevel::info, "quiet");
  ::close(ends[1]);
  char byte = 0;
  EXPECT_EQ(::read(ends[0], &byte, 1), 0);
  ::close(ends[0]);
}

TEST(Metrics, AreWrittenAsPrometheusReadsThem) {
  Metrics metrics;
  metrics.count("darkroom_things_total", "Things.", {{"kind", "a\"b"}});
  metrics.count("darkroom_things_total", "Things.", {{"kind", "a\"b"}}, 2);
  metrics.observe_seconds("darkroom_wait_seconds", "Waits.", {}, 0.03);
  double depth = 1;
  metrics.add_source([&] {
    return std::vector<MetricFamily>{{"darkroom_depth", "Depth.", MetricKind::gauge, {{{{"band", "low"}}, depth}}}};
  });
  depth = 7;
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("# TYPE darkroom_things_total counter\ndarkroom_things_total{kind=\"a\\\"b\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("darkroom_wait_seconds_bucket{le=\"0.025\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("darkroom_wait_seconds_bucket{le=\"0.05\"} 1\n"));
  EXPECT_THAT(text,
              HasSubstr("# HELP darkroom_depth Depth.\n# TYPE darkroom_depth gauge\ndarkroom_depth{band=\"low\"} 7\n"));
}

}  // namespace
}  // namespace darkroom
