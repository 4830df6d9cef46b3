// Functions of the VM. They stay there; here each is a number, which the VM has given out for as long as there is a term for it.
//
// Each giving has a number of its own. When the last term is gone the number is noted, for the connection to tell it to the VM.
#pragma once

#include <vector>

#include "heap.hpp"

namespace pythonx::worker {

struct Function : Counted {
  std::uint64_t number = 0;
  std::uint32_t creation = 0;
  std::uint32_t last = 0;  // the last of the three words of its reference
};

inline const Function* function_in(const Term* box) {
  return static_cast<const Function*>(reinterpret_cast<const Counted*>(box[1]));
}

Term make_function(Env* env, std::uint32_t creation, std::uint64_t number, std::uint32_t last);

// Takes the numbers of those that are gone.
std::vector<std::uint64_t> take_dropped_functions();
bool has_dropped_functions();

}  // namespace pythonx::worker
