// Whether Arrow arrays can be read as their types say. Checked once, when they are taken (tables/import.cpp): what a disk or a
// connection has damaged, or somebody has made up, is refused, and no reader has to look again.
//
// The C data interface says how many values an array has, not how many bytes its buffers have, but for those of views. So
// what can be checked is what the parts of an array say about each other:
//   * lengths, offsets and counts of nulls that cannot be; buffers and children that are missing or too many;
//   * children that are too short; offsets, sizes, indices, run ends, type ids and views that refer to something outside of
//     the child, the dictionary or the buffer that they are for;
//   * offsets into a buffer of text or bytes that are negative or descend.
// What cannot be: that a buffer is as long as the length of the array says, and that the last offset into text or bytes lies in
// theirs. pyarrow, which reads what comes from files and connections without a look at it, knows these sizes: of its data
// it is asked before (priv/python/pythonx/_tables.py). Texts are checked when they are read. Memory that is changed later, such
// as a bytearray under an array, is not looked at again.
//
// Values under a null may be anything, but for offsets of lists, text and bytes, which have to ascend all the same.
//
// A walk recurses once for each level of a type. Of values it reads only what refers to others, and of that only what the rows
// in question can reach: a batch may be a small part of large arrays. So the readers may follow what refers to a value from
// one of these rows on. Nothing here needs the GIL.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "tables/arrow_abi.hpp"
#include "tables/arrow_type.hpp"

namespace pythonx {

// In what is found to be wrong.
inline std::string number(std::int64_t value) { return std::to_string(value); }

// All of these return what is wrong; nothing for an array that is sound.

// What an array says of itself, without a look at its children. Touches no values.
std::string check_frame(const Type& type, const ArrowArray& array);

// The same and that of all arrays in it, and whether they fit each other at their ends.
std::string check_shape(const Type& type, const ArrowArray& array);

// Names a part of an array in what was found to be wrong with it.
std::string in_part(const std::string& name, const std::string& wrong);

// Whether an array has a bitmap that says which values are null: readers ask this too.
inline const void* validity_of(const ArrowArray& array) {
  return array.null_count != 0 && array.n_buffers > 0 ? array.buffers[0] : nullptr;
}

// Looks at the values of arrays whose shape is sound.
class ValueCheck {
 public:
  // The values [from, to), counted in the buffers: they include the offset of the array.
  std::string check(const Type& type, const ArrowArray& array, std::int64_t from, std::int64_t to);

 private:
  std::string children(const Type& type, const ArrowArray& array, std::int64_t from, std::int64_t to);
  std::string child(const Type& type, const ArrowArray& array, std::size_t n, std::int64_t from,
                    std::int64_t to);
  std::string offsets(const Type& type, const ArrowArray& array, std::int64_t from, std::int64_t to);
  std::string sized_lists(const Type& type, const ArrowArray& array, std::int64_t from, std::int64_t to);
  std::string indices(const Type& type, const ArrowArray& array, std::int64_t from, std::int64_t to);
  std::string runs(const Type& type, const ArrowArray& array, std::int64_t from, std::int64_t to);
  std::string united(const Type& type, const ArrowArray& array, std::int64_t from, std::int64_t to);
  bool is_known(const Type& type, const ArrowArray& array);

  // Dictionaries and run ends belong to whole arrays, and batches of a stream share them: the one of each type that was looked
  // at last. Whoever checks keeps all arrays that had values until the last one is checked.
  std::unordered_map<const Type*, const ArrowArray*> known_;
};

}  // namespace pythonx
