#include "tables/union_type.hpp"

#include <cstdlib>
#include <cstring>

namespace pythonx {

bool read_union(const Type& type, UnionLayout* out) {
  const char* rest = type.format.c_str();
  if (std::strncmp(rest, "+ud:", 4) != 0 && std::strncmp(rest, "+us:", 4) != 0) return false;
  out->dense = rest[2] == 'd';
  out->child_of.fill(-1);
  rest += 4;
  for (std::size_t child = 0; child < type.children.size(); ++child) {
    char* end;
    const long id = std::strtol(rest, &end, 10);
    if (end == rest || id < 0 || id > 127) return false;
    out->child_of[static_cast<std::size_t>(id)] = static_cast<std::int16_t>(child);
    rest = *end == ',' ? end + 1 : end;
  }
  return true;
}

}  // namespace pythonx
