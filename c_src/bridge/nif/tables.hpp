// The native functions of Pythonx.Table: thin over tables/read.hpp and tables/build.hpp.
#pragma once

#include "vm/term.hpp"

namespace pythonx {

// Called once, when the library is loaded.
bool open_tables(ErlNifEnv* env);

// table_info(object) :: {names, types, rows} | :error
Term nif_table_info(ErlNifEnv* env, int argc, const Term argv[]);

// table_new([{name, type | nil, {:rows, list} | {:binary, binaries}}]) ::
//   {:ok, object} | {:error, {column, row, value, reason, type}}
Term nif_table_new(ErlNifEnv* env, int argc, const Term argv[]);

// table_part(object, columns, offset, length) :: object
Term nif_table_part(ErlNifEnv* env, int argc, const Term argv[]);

// table_column(object, column, offset, length, options) :: list | {:error, {column, row, text}}
Term nif_table_column(ErlNifEnv* env, int argc, const Term argv[]);

// table_rows(object, offset, length, options) :: list | {:error, {column, row, text}}
Term nif_table_rows(ErlNifEnv* env, int argc, const Term argv[]);

// table_binaries(object, column) :: [binary] | {:error, :type | nulls}
Term nif_table_binaries(ErlNifEnv* env, int argc, const Term argv[]);

// table_chunks(object, column) :: [chunk]
Term nif_table_chunks(ErlNifEnv* env, int argc, const Term argv[]);

// table_arrays() :: non_neg_integer
Term nif_table_arrays(ErlNifEnv* env, int argc, const Term argv[]);

}  // namespace pythonx
