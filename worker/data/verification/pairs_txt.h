#pragma once
// LFW's lists of pairs (pairs.txt, pairsDevTrain.txt; http://vis-www.cs.umass.edu/lfw/README.txt).

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace fr {

// A picture by name and number: NAME/NAME_0001.jpg.
struct NamedPicture {
  std::string name;
  std::int64_t number = 0;
};

struct NamedPair {
  NamedPicture first;
  NamedPicture second;
  bool same = false;
  std::int64_t line = 0;  // of the list, from 1
};

// The first line is "folds<TAB>n", or "n" for one fold; then, for each fold, n lines
// "name<TAB>n1<TAB>n2" of one identity and n lines "name1<TAB>n1<TAB>name2<TAB>n2" of two. The
// pairs are in the order of the file, so that folds stay folds. Throws Error(kNotFound | kIo),
// Error(kInvalidArgument) that names file and line.
std::vector<NamedPair> ReadPairsTxt(const std::filesystem::path& path);

}  // namespace fr
