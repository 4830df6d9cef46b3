// The native functions of Pythonx.Table: thin over tables/read.hpp and tables/build.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "nif/parameters.hpp"
#include "tables/arrow_atoms.hpp"
#include "tables/read.hpp"

namespace pythonx {

namespace nif {

// The values of a column of table_new: a list of them, or of binaries with raw values.
enum class Form { rows, binary };

}  // namespace nif

template <>
struct Enumeration<nif::Form> {
  static constexpr AtomOf<nif::Form> atoms_of[] = {{nif::Form::rows, &arrow_atoms.rows},
                                                   {nif::Form::binary, &arrow_atoms.binary}};
};

namespace nif {

// {decimals, durations, truncate}
using ReadFlags = std::tuple<bool, bool, bool>;

// {name, type | nil, {form, values}}
using ColumnArgument = std::tuple<std::string, Term, std::tuple<Form, Term>>;

// table_info(object) :: {names, types, rows} | :error
std::variant<std::tuple<std::vector<std::string>, std::vector<Term>, std::int64_t>, Term> table_info(
    ErlNifEnv* env, Term object);

// {:ok, object} | {:needs_thread, table}, with a table for the operation "table_object" | {:error, failure}
using MadeTable = std::variant<Ok<Object>, std::tuple<Term, Term>, Term>;

// table_new([{name, type | nil, {:rows, list} | {:binary, binaries}}]) ::
//   {:ok, object} | {:needs_thread, table} | {:error, {column, row, value, reason, type}}
MadeTable table_new(ErlNifEnv* env, const std::vector<ColumnArgument>& arguments);

// table_part(object, columns, offset, length) :: {:ok, object} | {:needs_thread, table}
MadeTable table_part(ErlNifEnv* env, const TablePtr& table, const std::vector<std::int64_t>& columns,
                     std::int64_t offset, std::int64_t length);

// table_column(object, column, offset, length, flags) :: list | {:error, {column, row, text}}
Term table_column(ErlNifEnv* env, const TablePtr& table, std::int64_t column, std::int64_t offset,
                  std::int64_t length, const ReadFlags& flags);

// table_rows(object, offset, length, flags) :: list | {:error, {column, row, text}}
Term table_rows(ErlNifEnv* env, const TablePtr& table, std::int64_t offset, std::int64_t length,
                const ReadFlags& flags);

// table_binaries(object, column) :: [binary] | {:error, :type | nulls}
std::variant<Term, Error<Term>, Error<std::int64_t>> table_binaries(ErlNifEnv* env, const TablePtr& table,
                                                                    std::int64_t column);

// table_chunks(object, column) :: [chunk]
Term table_chunks(ErlNifEnv* env, const TablePtr& table, std::int64_t column);

// table_arrays() :: non_neg_integer
std::int64_t table_arrays();

}  // namespace nif
}  // namespace pythonx
