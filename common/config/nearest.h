#pragma once
// "Did you mean ...?"

#include <string>
#include <vector>

namespace fr {

// The one of `candidates` that `word` was most likely meant to be, by edit distance; empty if none
// is near.
std::string NearestWord(const std::string& word, const std::vector<std::string>& candidates);

// "did you mean 'lr'?" if one is near, else "known here: lr, momentum, ...".
std::string SuggestWord(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace fr
