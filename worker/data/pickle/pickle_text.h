#pragma once
// The texts of Python's pickles that are not simply bytes.

#include <optional>
#include <string>
#include <string_view>

namespace fr {

// Of a quoted string as protocol 0 writes Python 2's str: 'it\'s \x00'. Nothing if the quotes or an
// escape are broken.
std::optional<std::string> UnescapeString(std::string_view quoted);

// Of protocol 0's unicode, Python's raw-unicode-escape: single bytes are Latin-1, \uXXXX and
// \UXXXXXXXX code points. UTF-8 comes out; nothing if an escape is broken.
std::optional<std::string> DecodeRawUnicodeEscape(std::string_view text);

// UTF-8 as Latin-1: one byte a character. Nothing if a character has none, or the text is no UTF-8.
std::optional<std::string> EncodeLatin1(std::string_view utf8);

}  // namespace fr
