#include "term.hpp"

namespace pythonx {

Atoms atoms;

void init_atoms(ErlNifEnv* env) {
#define X(name, text) atoms.name = enif_make_atom(env, text);
  PYTHONX_ATOMS(X)
#undef X
}

}  // namespace pythonx
