// The examples of docs/scheduling.md, decided by the scheduler itself.

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/coordinator/scheduler/round_text.h"

namespace fr {
namespace {

// What stands in the fences "```LANGUAGE" of the page.
std::vector<std::string> Fences(const std::string& language) {
  std::ifstream file(std::string(FR_SOURCE_DIR) + "/docs/scheduling.md");
  std::vector<std::string> fences;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (inside && line == "```") {
      inside = false;
    } else if (inside) {
      fences.back() += line + "\n";
    } else if (line == "```" + language) {
      inside = true;
      fences.emplace_back();
    }
  }
  return fences;
}

// "nodes", "users" and "jobs" head indented lines.
ClusterView ViewOfExample(const std::string& example) {
  std::map<std::string, std::string> sections;
  std::string section;
  std::istringstream lines(example);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(' ')) {
      sections[section] += line + "\n";
    } else {
      section = line;
    }
  }
  return ViewOf(sections["nodes"], sections["jobs"], sections["users"]);
}

std::string LinesOf(const Decisions& decisions) {
  std::string text;
  for (const StartDecision& start : decisions.starts) {
    text += fmt::format("job-{} starts:", start.number);
    for (const NodeSlots& slots : start.slots) {
      text += fmt::format(" {} on {}", slots.slots(), slots.node());
    }
    text += "\n";
  }
  for (const YieldDecision& yield : decisions.yields) {
    text += fmt::format("job-{} stops at a checkpoint: {}\n", yield.number, yield.reason);
  }
  for (const WaitDecision& wait : decisions.waits) {
    text += fmt::format("job-{} waits, number {}: {}\n", wait.number, wait.position, wait.reason);
  }
  return text;
}

TEST(DocumentedExample, IsWhatTheSchedulerDecides) {
  const std::vector<std::string> examples = Fences("example");
  const std::vector<std::string> decisions = Fences("decisions");
  ASSERT_FALSE(examples.empty());
  ASSERT_EQ(examples.size(), decisions.size());
  for (std::size_t i = 0; i < examples.size(); ++i) {
    EXPECT_EQ(LinesOf(Schedule(ViewOfExample(examples[i]), SchedulerSpec())), decisions[i]);
  }
}

}  // namespace
}  // namespace fr
