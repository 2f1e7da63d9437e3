#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/error.h"
#include "common/cli/table.h"
#include "common/cli/text.h"
#include "coordinator/api/json.h"
#include "coordinator/cli/frctl_commands.h"
#include "coordinator/cli/job_client.h"

namespace fr {
namespace {

void PrintLastValues(const GetMetricsReply& reply) {
  std::vector<std::vector<std::string>> rows;
  for (const MetricSeries& series : reply.series()) {
    if (series.values().empty()) continue;
    const auto [least, most] = std::minmax_element(series.values().begin(), series.values().end());
    rows.push_back({series.name(), CountText(*series.steps().rbegin()),
                    DecimalText(*series.values().rbegin()), DecimalText(*series.values().begin()),
                    DecimalText(*least), DecimalText(*most), CountText(series.values_size())});
  }
  fmt::print("{}", FormatTable({{"METRIC"},
                                {"STEP", Align::kRight},
                                {"LAST", Align::kRight},
                                {"FIRST", Align::kRight},
                                {"LEAST", Align::kRight},
                                {"MOST", Align::kRight},
                                {"POINTS", Align::kRight}},
                               rows));
}

void PrintPoints(const GetMetricsReply& reply) {
  std::vector<std::vector<std::string>> rows;
  for (const MetricSeries& series : reply.series()) {
    for (int i = 0; i < series.steps_size(); ++i) {
      rows.push_back({series.name(), CountText(series.steps(i)), DecimalText(series.values(i)),
                      TimeText(series.times_ms(i))});
    }
  }
  fmt::print(
      "{}",
      FormatTable({{"METRIC"}, {"STEP", Align::kRight}, {"VALUE", Align::kRight}, {"TIME"}}, rows));
}

void PrintCsv(const GetMetricsReply& reply) {
  fmt::print("metric,step,value,time_ms\n");
  for (const MetricSeries& series : reply.series()) {
    for (int i = 0; i < series.steps_size(); ++i) {
      fmt::print("{},{},{},{}\n", series.name(), series.steps(i), series.values(i),
                 series.times_ms(i));
    }
  }
}

void CheckNames(JobClient& client, const std::string& job_id,
                const std::vector<std::string>& names) {
  if (names.empty()) return;
  std::string known;
  std::vector<std::string> missing = names;
  const GetMetricsReply all = client.Metrics(job_id, {});
  for (const MetricSeries& series : all.series()) {
    known += (known.empty() ? "" : ", ") + series.name();
    std::erase_if(missing, [&](const std::string& name) {
      return name == series.name() || (name.ends_with('/') && series.name().starts_with(name));
    });
  }
  if (missing.empty()) return;
  throw Error(ErrorCode::kNotFound,
              fmt::format("{} has no metric \"{}\"; it has {}", job_id, missing.front(),
                          known.empty() ? "none yet" : known));
}

}  // namespace

void PrintMetrics(JobClient& client, const std::string& job_id,
                  const std::vector<std::string>& names, std::int64_t after_step,
                  OutputFormat format) {
  CheckNames(client, job_id, names);
  const GetMetricsReply reply = client.Metrics(job_id, names, after_step);
  switch (format) {
    case OutputFormat::kJson:
      return PrintJson(MetricsJson(reply));
    case OutputFormat::kCsv:
      return PrintCsv(reply);
    case OutputFormat::kTable:
      return names.empty() ? PrintLastValues(reply) : PrintPoints(reply);
  }
}

}  // namespace fr
