#include "nif/tables.hpp"

#include "conversion/object.hpp"
#include "python/gil.hpp"
#include "tables/arrow_atoms.hpp"
#include "tables/build.hpp"
#include "tables/read.hpp"

namespace pythonx {
namespace {

// The table of a %Pythonx.Object{} that holds a pythonx.Table. The term keeps the object while we look into it.
TablePtr table_argument(ErlNifEnv* env, Term term) {
  PyObject* object = get_object(env, term);
  return object == nullptr ? nullptr : get_table(object);
}

bool get_column_argument(ErlNifEnv* env, const Table& table, Term term, std::size_t* out) {
  ErlNifUInt64 index;
  if (!enif_get_uint64(env, term, &index) || index >= table.columns.size()) return false;
  *out = index;
  return true;
}

// Rows that lie in the table.
bool get_range(ErlNifEnv* env, const Table& table, Term offset_term, Term length_term, std::int64_t* offset,
               std::int64_t* length) {
  ErlNifSInt64 first;
  ErlNifSInt64 count;
  if (!enif_get_int64(env, offset_term, &first) || !enif_get_int64(env, length_term, &count)) return false;
  *offset = first;
  *length = count;
  return first >= 0 && count >= 0 && first <= table.rows && count <= table.rows - first;
}

// {decimals, durations, truncate}
ReadOptions get_options(ErlNifEnv* env, Term term) {
  const Term* items;
  int arity;
  if (!enif_get_tuple(env, term, &arity, &items) || arity != 3) return {};
  return {items[0] == atoms.true_, items[1] == atoms.true_, items[2] == atoms.true_};
}

Term error(ErlNifEnv* env, Term what) { return make_tuple(env, atoms.error, what); }

Term read_error(ErlNifEnv* env, const ReadFailure& failure) {
  return error(env, make_tuple(env, enif_make_uint64(env, failure.column), enif_make_int64(env, failure.row),
                               make_binary(env, failure.text)));
}

// A new %Pythonx.Object{} of a table.
Term make_table(ErlNifEnv* env, TablePtr table) {
  const Attach attached;
  PyObject* object = make_table_object(std::move(table));
  if (object == nullptr) {
    PyErr_Clear();
    return enif_raise_exception(env, enif_make_atom(env, "enomem"));
  }
  const Term term = make_object(env, object);
  Py_DECREF(object);
  return term;
}

// One column of table_new.
bool read_column_argument(ErlNifEnv* env, Term term, Column* out, BuildFailure* failure) {
  const Term* parts;
  const Term* data;
  int arity;
  std::string_view name;
  enif_get_tuple(env, term, &arity, &parts);
  enif_get_tuple(env, parts[2], &arity, &data);
  get_binary(env, parts[0], &name);
  Type type;
  type.name = std::string(name);
  if (parts[1] == atoms.nil) {
    if (!infer_type(env, data[1], &type, failure)) return false;
    type.name = std::string(name);
    failure->row = 0;
  } else if (!read_type(env, parts[1], &type)) {
    *failure = {0, parts[1], arrow_atoms.unsupported, parts[1]};
    return false;
  }
  if (data[0] == arrow_atoms.rows) return build_column(env, data[1], std::move(type), out, failure);
  return column_over(env, data[1], type, out, failure);
}

std::int64_t rows_of(const Column& column) {
  std::int64_t rows = 0;
  for (const Chunk& chunk : column.chunks) rows += chunk.length;
  return rows;
}

Term build_error(ErlNifEnv* env, std::size_t column, const BuildFailure& failure) {
  const Term type = failure.type == 0 ? atoms.nil : failure.type;
  return error(env, make_tuple(env, enif_make_uint64(env, column), enif_make_int64(env, failure.row),
                               failure.value, failure.reason, type));
}

}  // namespace

bool open_tables(ErlNifEnv* env) {
  init_arrow_atoms(env);
  return open_column_type(env);
}

Term nif_table_info(ErlNifEnv* env, int, const Term argv[]) {
  const TablePtr table = table_argument(env, argv[0]);
  if (table == nullptr) return atoms.error;
  std::vector<Term> names;
  std::vector<Term> types;
  for (const Column& column : table->columns) {
    names.push_back(make_binary(env, column.type->name));
    types.push_back(type_term(env, *column.type));
  }
  const auto count = static_cast<unsigned>(names.size());
  return make_tuple(env, enif_make_list_from_array(env, names.data(), count),
                    enif_make_list_from_array(env, types.data(), count), enif_make_int64(env, table->rows));
}

Term nif_table_new(ErlNifEnv* env, int, const Term argv[]) {
  auto table = std::make_shared<Table>();
  Term list = argv[0];
  for (Term head; enif_get_list_cell(env, list, &head, &list);) {
    BuildFailure failure;
    Column column;
    if (!read_column_argument(env, head, &column, &failure))
      return build_error(env, table->columns.size(), failure);
    const std::int64_t rows = rows_of(column);
    if (!table->columns.empty() && rows != rows_of(table->columns[0])) {
      const Term first = enif_make_int64(env, rows_of(table->columns[0]));
      failure = {rows, first, arrow_atoms.length, 0};
      return build_error(env, table->columns.size(), failure);
    }
    table->columns.push_back(std::move(column));
  }
  align_batches(*table);
  return make_tuple(env, atoms.ok, make_table(env, std::move(table)));
}

Term nif_table_part(ErlNifEnv* env, int, const Term argv[]) {
  const TablePtr table = table_argument(env, argv[0]);
  std::int64_t offset;
  std::int64_t length;
  if (table == nullptr || !get_range(env, *table, argv[2], argv[3], &offset, &length))
    return enif_make_badarg(env);
  std::vector<std::size_t> columns;
  Term list = argv[1];
  for (Term head; enif_get_list_cell(env, list, &head, &list);) {
    columns.push_back(0);
    if (!get_column_argument(env, *table, head, &columns.back())) return enif_make_badarg(env);
  }
  return make_table(env, part_of(*table, columns, offset, length));
}

Term nif_table_column(ErlNifEnv* env, int, const Term argv[]) {
  const TablePtr table = table_argument(env, argv[0]);
  std::size_t column;
  std::int64_t offset;
  std::int64_t length;
  if (table == nullptr || !get_column_argument(env, *table, argv[1], &column) ||
      !get_range(env, *table, argv[2], argv[3], &offset, &length))
    return enif_make_badarg(env);
  ReadFailure failure;
  const Term list = read_column(env, *table, column, offset, length, get_options(env, argv[4]), &failure);
  return list == 0 ? read_error(env, failure) : list;
}

Term nif_table_rows(ErlNifEnv* env, int, const Term argv[]) {
  const TablePtr table = table_argument(env, argv[0]);
  std::int64_t offset;
  std::int64_t length;
  if (table == nullptr || !get_range(env, *table, argv[1], argv[2], &offset, &length))
    return enif_make_badarg(env);
  ReadFailure failure;
  const Term list = read_rows(env, *table, offset, length, get_options(env, argv[3]), &failure);
  return list == 0 ? read_error(env, failure) : list;
}

Term nif_table_binaries(ErlNifEnv* env, int, const Term argv[]) {
  const TablePtr table = table_argument(env, argv[0]);
  std::size_t index;
  if (table == nullptr || !get_column_argument(env, *table, argv[1], &index)) return enif_make_badarg(env);
  const Column& column = table->columns[index];
  if (!is_plain(*column.type)) return error(env, arrow_atoms.type);
  std::int64_t nulls = 0;
  for (const Chunk& chunk : column.chunks) nulls += count_nulls(chunk);
  return nulls == 0 ? column_binaries(env, column) : error(env, enif_make_int64(env, nulls));
}

Term nif_table_chunks(ErlNifEnv* env, int, const Term argv[]) {
  const TablePtr table = table_argument(env, argv[0]);
  std::size_t index;
  if (table == nullptr || !get_column_argument(env, *table, argv[1], &index)) return enif_make_badarg(env);
  return column_chunks(env, table->columns[index]);
}

Term nif_table_arrays(ErlNifEnv* env, int, const Term[]) { return enif_make_uint64(env, live_arrays()); }

}  // namespace pythonx
