#pragma once
// Text from a file of unknown origin, as it may stand in a message.

#include <string>
#include <string_view>

namespace fr {

// In quotation marks, with what is not printable ASCII as \xNN, cut after 200 bytes. (Not fmt's
// {:?}: fmt 9 reads outside texts that are no UTF-8.)
std::string Quoted(std::string_view text);

}  // namespace fr
