// Tables: columns of Arrow data that Elixir and Python share.
//
// Ownership. A chunk keeps its array by a shared pointer, and everything that refers to its memory keeps a copy of that
// pointer: the table, tables made of it, binaries in Elixir, structures exported to Python. None of these needs the GIL to
// let go, and each may be the last.
//   * An array imported from Python is owned by a capsule. Letting go of it queues the capsule among the pending
//     references (conversion/object.hpp), so that its release callback runs attached, on a thread of the bridge: a callback may need
//     the GIL, for which no scheduler may wait.
//   * An array built here is plain memory, freed at once; one over binaries of Elixir has an environment that keeps these.
// Each column of a batch is an array of its own (children are moved out of the batch), so that a binary of one column
// keeps that column alive and not the others.
//
// Nothing here is ever changed once it is made: values are read by any thread, with or without the GIL.
#pragma once

#include <Python.h>

#include <memory>
#include <string>
#include <vector>

#include "tables/arrow_type.hpp"

namespace pythonx {

using ArrayPtr = std::shared_ptr<const ArrowArray>;

// The rows [offset, offset + length) of an array. The offset is the whole one: it includes that of the array itself.
struct Chunk {
  ArrayPtr array;
  std::int64_t offset;
  std::int64_t length;
};

struct Column {
  std::shared_ptr<const Type> type;  // its name is that of the column
  std::vector<Chunk> chunks;
};

// The chunks of all columns have the same lengths: the n-th ones make a batch.
struct Table {
  std::vector<Column> columns;
  std::vector<std::int64_t> batches;  // their lengths, of a table without columns too
  std::int64_t rows = 0;
  std::string metadata;
};

using TablePtr = std::shared_ptr<const Table>;

// How many arrays are alive: imported ones whose release callback has not run, and built ones.
std::size_t live_arrays();
void count_array(int difference);

// Reads what an object offers by __arrow_c_stream__ or __arrow_c_array__, or a capsule of a stream. Attached, on a bridge
// thread. nullptr with an exception set.
TablePtr import_table(PyObject* object);

// pythonx.Table, the Python type that offers a table by __arrow_c_stream__. Made once at boot, attached.
bool init_table_type();
PyTypeObject* table_type();

// A new pythonx.Table; nullptr with an exception set. Needs the GIL.
PyObject* make_table_object(TablePtr table);

// The table of a pythonx.Table; nullptr for any other object, sets no error. Needs no GIL where somebody keeps the object.
TablePtr get_table(PyObject* object);

// Whether a table is to have memory of its own. What nobody can change is shared; most libraries never change their Arrow
// data, but that of pandas is what its data frames are made of.
enum class Copy { always, never, if_mutable };

// For an operation: a new pythonx.Table of what an object offers; nullptr with an exception set.
PyObject* table_of(PyObject* object, Copy copy);

// The same values in memory of their own. Needs no GIL. Columns of unsupported types stay shared.
TablePtr copy_of(const Table& table);

// The rows [offset, offset + length) of some columns, in that order.
TablePtr part_of(const Table& table, const std::vector<std::size_t>& columns, std::int64_t offset,
                 std::int64_t length);

// Cuts the chunks of columns so that they have the same lengths, and counts the rows.
void align_batches(Table& table);

}  // namespace pythonx
