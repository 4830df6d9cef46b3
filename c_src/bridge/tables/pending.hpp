// Tables that have no Python object yet, as terms: what a scheduler leaves to a job when it cannot have the GIL.
#pragma once

#include "tables/table.hpp"
#include "vm/term.hpp"

namespace pythonx {

// Called whenever the library is loaded.
bool open_pending_table_type(ErlNifEnv* env);

Term make_pending_table(ErlNifEnv* env, TablePtr table);

// nullptr for any other term.
TablePtr get_pending_table(ErlNifEnv* env, Term term);

}  // namespace pythonx
