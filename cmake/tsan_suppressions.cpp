// What the thread sanitizer is not to report, in every program that is built with it.

// RocksDB and ZeroMQ come without instrumentation, so that the sanitizer does not see how their
// threads hand rows and messages to each other. The last two are ZeroMQ's, too: its threads reach
// them through the C++ library, behind which the stack cannot be followed. The function's name is
// the sanitizer's. NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" const char* __tsan_default_suppressions() {
  return "race:librocksdb\n"
         "race:libzmq\n"
         "race:basic_string*::compare(char const\n"
         "race:basic_streambuf*::xsputn\n";
}
