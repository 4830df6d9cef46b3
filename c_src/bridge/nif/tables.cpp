#include "nif/tables.hpp"

#include <new>
#include <utility>

#include "python/gil.hpp"
#include "tables/build.hpp"
#include "tables/pending.hpp"

namespace pythonx::nif {
namespace {

std::size_t column_index(const Table& table, std::int64_t index) {
  if (index < 0 || static_cast<std::size_t>(index) >= table.columns.size()) throw BadArgument();
  return static_cast<std::size_t>(index);
}

// Rows that lie in the table.
void check_range(const Table& table, std::int64_t offset, std::int64_t length) {
  const bool inside = offset >= 0 && length >= 0 && offset <= table.rows && length <= table.rows - offset;
  if (!inside) throw BadArgument();
}

ReadOptions options_of(const ReadFlags& flags) {
  return {std::get<0>(flags), std::get<1>(flags), std::get<2>(flags)};
}

Term read_error(ErlNifEnv* env, const ReadFailure& failure) {
  const auto column = static_cast<std::int64_t>(failure.column);
  return to_term(
      env, Error<std::tuple<std::int64_t, std::int64_t, std::string>>{{column, failure.row, failure.text}});
}

// The Python object of a table, or the table for a job to make one of.
MadeTable make_table(ErlNifEnv* env, TablePtr table) {
  TryAttach attached;
  if (!attached) return std::tuple(atoms.needs_thread, make_pending_table(env, std::move(table)));
  PyObject* object = make_table_object(std::move(table));
  if (object != nullptr) return Ok<Object>{Object(object)};
  PyErr_Clear();
  throw std::bad_alloc();
}

// One column of table_new.
bool build(ErlNifEnv* env, const ColumnArgument& argument, Column* out, BuildFailure* failure) {
  const auto& [name, type_term, data] = argument;
  const auto [form, values] = data;
  Type type;
  if (type_term == atoms.nil) {
    if (!infer_type(env, values, &type, failure)) return false;
    failure->row = 0;
  } else if (!read_type(env, type_term, &type)) {
    *failure = {0, type_term, arrow_atoms.unsupported, type_term};
    return false;
  }
  type.name = name;
  if (form == Form::rows) return build_column(env, values, std::move(type), out, failure);
  return column_over(env, values, type, out, failure);
}

std::int64_t rows_of(const Column& column) {
  std::int64_t rows = 0;
  for (const Chunk& chunk : column.chunks) rows += chunk.length;
  return rows;
}

Term build_error(ErlNifEnv* env, std::size_t column, const BuildFailure& failure) {
  const Term type = failure.type == 0 ? atoms.nil : failure.type;
  const auto index = static_cast<std::int64_t>(column);
  return to_term(env, Error<std::tuple<std::int64_t, std::int64_t, Term, Term, Term>>{
                          {index, failure.row, failure.value, failure.reason, type}});
}

}  // namespace

std::variant<std::tuple<std::vector<std::string>, std::vector<Term>, std::int64_t>, Term> table_info(
    ErlNifEnv* env, Term object) {
  Parameter<TablePtr> table;
  if (!table.read(env, object)) return atoms.error;
  std::vector<std::string> names;
  std::vector<Term> types;
  for (const Column& column : table.value->columns) {
    names.push_back(column.type->name);
    types.push_back(type_term(env, *column.type));
  }
  return std::tuple(std::move(names), std::move(types), table.value->rows);
}

MadeTable table_new(ErlNifEnv* env, const std::vector<ColumnArgument>& arguments) {
  auto table = std::make_shared<Table>();
  for (const ColumnArgument& argument : arguments) {
    BuildFailure failure;
    Column column;
    if (!build(env, argument, &column, &failure)) return build_error(env, table->columns.size(), failure);
    const std::int64_t rows = rows_of(column);
    if (!table->columns.empty() && rows != rows_of(table->columns[0])) {
      const Term first = enif_make_int64(env, rows_of(table->columns[0]));
      failure = {rows, first, arrow_atoms.length, 0};
      return build_error(env, table->columns.size(), failure);
    }
    table->columns.push_back(std::move(column));
  }
  align_batches(*table);
  return make_table(env, std::move(table));
}

MadeTable table_part(ErlNifEnv* env, const TablePtr& table, const std::vector<std::int64_t>& columns,
                     std::int64_t offset, std::int64_t length) {
  check_range(*table, offset, length);
  std::vector<std::size_t> indices;
  indices.reserve(columns.size());
  for (const std::int64_t column : columns) indices.push_back(column_index(*table, column));
  return make_table(env, part_of(*table, indices, offset, length));
}

Term table_column(ErlNifEnv* env, const TablePtr& table, std::int64_t column, std::int64_t offset,
                  std::int64_t length, const ReadFlags& flags) {
  check_range(*table, offset, length);
  ReadFailure failure;
  const Term list =
      read_column(env, *table, column_index(*table, column), offset, length, options_of(flags), &failure);
  return list == 0 ? read_error(env, failure) : list;
}

Term table_rows(ErlNifEnv* env, const TablePtr& table, std::int64_t offset, std::int64_t length,
                const ReadFlags& flags) {
  check_range(*table, offset, length);
  ReadFailure failure;
  const Term list = read_rows(env, *table, offset, length, options_of(flags), &failure);
  return list == 0 ? read_error(env, failure) : list;
}

std::variant<Term, Error<Term>, Error<std::int64_t>> table_binaries(ErlNifEnv* env, const TablePtr& table,
                                                                    std::int64_t index) {
  const Column& column = table->columns[column_index(*table, index)];
  if (!is_plain(*column.type)) return Error{arrow_atoms.type};
  std::int64_t nulls = 0;
  for (const Chunk& chunk : column.chunks) nulls += count_nulls(chunk);
  if (nulls != 0) return Error{nulls};
  return column_binaries(env, column);
}

Term table_chunks(ErlNifEnv* env, const TablePtr& table, std::int64_t index) {
  return column_chunks(env, table->columns[column_index(*table, index)]);
}

std::int64_t table_arrays() { return static_cast<std::int64_t>(live_arrays()); }

}  // namespace pythonx::nif
