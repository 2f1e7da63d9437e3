# cmake -DFILES=a|b -DOUTPUT=x.cpp -P embed.cmake: the files as arrays, see assets.h.
set(arrays "")
set(table "")
set(number 0)
string(REPLACE "|" ";" FILES "${FILES}")
foreach(path IN LISTS FILES)
  get_filename_component(name ${path} NAME)
  file(READ ${path} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  string(APPEND arrays "const unsigned char kFile${number}[] = {${bytes}};\n")
  string(APPEND table "    {\"/${name}\", AsText(kFile${number})},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUTPUT}
"// Made by coordinator/dashboard/embed.cmake.
#include \"coordinator/dashboard/assets.h\"

namespace fr {
namespace {

${arrays}
template <std::size_t kSize>
std::string_view AsText(const unsigned char (&bytes)[kSize]) {
  return {reinterpret_cast<const char*>(bytes), kSize};
}

}  // namespace

const std::map<std::string, std::string_view>& DashboardFiles() {
  static const std::map<std::string, std::string_view> files = {
${table}  };
  return files;
}

}  // namespace fr
")
