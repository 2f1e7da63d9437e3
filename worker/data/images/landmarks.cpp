#include "worker/data/images/landmarks.h"

#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/quoted.h"
#include "common/base/trimmed.h"

namespace fr {
namespace {

// Where in the file something is wrong.
struct Place {
  std::string file;
  std::size_t line = 0;

  [[noreturn]] void Fail(const std::string& what) const {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}:{}: {}", file, line, what));
  }
};

struct Entry {
  std::string path;
  FacePoints points;
};

double ToNumber(std::string_view text, const Place& place) {
  const std::string_view trimmed = Trimmed(text);
  double number = 0;
  const auto [end, error] =
      std::from_chars(trimmed.data(), trimmed.data() + trimmed.size(), number);
  if (error != std::errc() || end != trimmed.data() + trimmed.size() || !std::isfinite(number)) {
    place.Fail(fmt::format("{} is no number; 'path,x1,y1,...,x5,y5' is expected", Quoted(text)));
  }
  return number;
}

// "a ""b"".jpg" without the outer quotation marks and the doubled inner ones.
std::string Unquoted(std::string_view text, const Place& place) {
  if (text.size() < 2 || text.back() != '"') {
    place.Fail(fmt::format("{} has no quotation mark at its end", Quoted(text)));
  }
  std::string plain;
  for (std::size_t i = 1; i + 1 < text.size(); ++i) {
    plain += text[i];
    if (text[i] == '"') ++i;
  }
  return plain;
}

// From the right, since paths may have commas.
Entry ParseCsv(std::string_view line, const Place& place) {
  Entry entry;
  for (std::size_t i = 10; i-- > 0;) {
    const std::size_t comma = line.rfind(',');
    if (comma == std::string_view::npos) {
      place.Fail(fmt::format("{} values where 'path,x1,y1,...,x5,y5' has 11", 10 - i));
    }
    Point& point = entry.points[i / 2];
    (i % 2 == 0 ? point.x : point.y) = ToNumber(line.substr(comma + 1), place);
    line = line.substr(0, comma);
  }
  line = Trimmed(line);
  entry.path = line.starts_with('"') ? Unquoted(line, place) : std::string(line);
  return entry;
}

Entry ParseJson(std::string_view line, const Place& place) {
  using Json = nlohmann::json;
  constexpr const char* kExpected =
      "a line {\"path\": \"...\", \"points\": [[x, y], ... five of them]} is expected";
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("path") || !json.contains("points") ||
      !json["path"].is_string() || !json["points"].is_array() || json["points"].size() != 5) {
    place.Fail(kExpected);
  }
  Entry entry;
  entry.path = json["path"].get<std::string>();
  for (std::size_t i = 0; i < entry.points.size(); ++i) {
    const Json& point = json["points"][i];
    if (!point.is_array() || point.size() != 2 || !point[0].is_number() || !point[1].is_number()) {
      place.Fail(kExpected);
    }
    entry.points[i] = {point[0].get<double>(), point[1].get<double>()};
  }
  return entry;
}

void Add(Entry entry, const Place& place, Landmarks* landmarks) {
  if (entry.path.starts_with("./")) entry.path.erase(0, 2);
  if (entry.path.empty()) place.Fail("names no picture");
  try {
    FitSimilarity(entry.points, AlignedPoints(112));
  } catch (const Error& error) {
    place.Fail(error.what());
  }
  if (!landmarks->emplace(entry.path, entry.points).second) {
    place.Fail(fmt::format("{} came before; one line a picture is expected", Quoted(entry.path)));
  }
}

}  // namespace

Landmarks ReadLandmarks(const std::filesystem::path& path) {
  const std::string text = ReadFile(path);
  Landmarks landmarks;
  Place place{path.string()};
  bool first = true;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = Trimmed(std::string_view(text).substr(at, end - at));
    at = end + 1;
    ++place.line;
    if (line.empty()) continue;
    const bool titles = std::exchange(first, false) && line.starts_with("path,");
    if (titles) continue;
    Add(line.starts_with('{') ? ParseJson(line, place) : ParseCsv(line, place), place, &landmarks);
  }
  if (landmarks.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: holds no points; lines 'path,x1,y1,...,x5,y5' are expected",
                            path.string()));
  }
  return landmarks;
}

}  // namespace fr
