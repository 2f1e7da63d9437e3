#pragma once
// Numbers, spans of time and sizes as people read them in a terminal. Pure.

#include <cstdint>
#include <string>

namespace fr {

std::string CountText(std::int64_t value);       // "1,234,567"
std::string PercentText(double share);           // "99.43 %"
std::string DecimalText(double value);           // four significant digits
std::string RateText(double per_second);         // "38.2", "1,834"
std::string DurationText(double seconds);        // "1 h 28 min"
std::string BytesText(std::int64_t bytes);       // "500 MiB"
std::string TimeText(std::int64_t unix_millis);  // "2026-11-24 04:31:19", local time
std::string AgeText(std::int64_t unix_millis, std::int64_t now_millis);  // "5 min ago"

// Control characters become spaces: what a job says never moves a terminal's cursor.
std::string OneLine(const std::string& text);

}  // namespace fr
