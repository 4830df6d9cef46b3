#include "tables/pending.hpp"

#include <utility>

#include "vm/resource.hpp"

namespace pythonx {
namespace {

struct PendingTable {
  TablePtr table;
};

ResourceType<PendingTable> pending_type;

}  // namespace

bool open_pending_table_type(ErlNifEnv* env) { return pending_type.open(env, "pythonx_pending_table"); }

Term make_pending_table(ErlNifEnv* env, TablePtr table) {
  PendingTable* pending = pending_type.make(std::move(table));
  const Term term = enif_make_resource(env, pending);
  enif_release_resource(pending);
  return term;
}

TablePtr get_pending_table(ErlNifEnv* env, Term term) {
  const PendingTable* pending = pending_type.get(env, term);
  return pending == nullptr ? nullptr : pending->table;
}

}  // namespace pythonx
