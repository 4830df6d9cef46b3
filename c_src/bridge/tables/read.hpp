// Values of tables as terms, and their memory as binaries. Needs no GIL: the data is plain memory that never changes.
#pragma once

#include <string>

#include "tables/table.hpp"

namespace pythonx {

struct ReadOptions {
  bool decimals = false;   // %Decimal{} exists; otherwise {coefficient, exponent}
  bool durations = false;  // %Duration{} exists; otherwise {value, unit}
  bool truncate = false;   // nanoseconds are cut to microseconds; otherwise they must be none
};

// Why a value has no term, and where it is.
struct ReadFailure {
  std::size_t column = 0;
  std::int64_t row = 0;
  std::string text;
};

// The rows [offset, offset + length) of a column as a list; 0 with *failure set otherwise.
Term read_column(ErlNifEnv* env, const Table& table, std::size_t column, std::int64_t offset,
                 std::int64_t length, const ReadOptions& options, ReadFailure* failure);

// The same of the whole table, as maps with the names of columns as keys, which must differ.
Term read_rows(ErlNifEnv* env, const Table& table, std::int64_t offset, std::int64_t length,
               const ReadOptions& options, ReadFailure* failure);

// Registers the type of the resources behind binaries over columns. Called once, when the library is loaded.
bool open_column_type(ErlNifEnv* env);

// A list with a binary of raw values for each chunk, of a column of a plain type without nulls.
Term column_binaries(ErlNifEnv* env, const Column& column);

// How many of the rows are null.
std::int64_t count_nulls(const Chunk& chunk);

// A list of {type, format, length, offset, null count, buffers, children, dictionary} for each chunk.
Term column_chunks(ErlNifEnv* env, const Column& column);

}  // namespace pythonx
