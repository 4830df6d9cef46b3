// Columns from terms.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tables/table.hpp"

namespace pythonx {

// The first value that cannot be in its column.
struct BuildFailure {
  std::int64_t row = 0;
  Term value = 0;
  Term reason = 0;  // of arrow_atoms
  Term type = 0;    // the term of the type that it does not fit; 0 when there is none
};

// The type of a column of values: false with the failure set where they have none in common.
bool infer_type(ErlNifEnv* env, Term list, Type* out, BuildFailure* failure);

// A column from a list of values. Changes the type where the values need longer offsets. False with the failure set.
bool build_column(ErlNifEnv* env, Term list, Type type, Column* out, BuildFailure* failure);

// A column of a plain type from binaries of raw values, which are kept and not copied unless they are not aligned.
bool column_over(ErlNifEnv* env, Term binaries, const Type& type, Column* out, BuildFailure* failure);

// What values have in common between inferring and building: fields of structs by either kind of key.
struct FieldKey {
  Term binary;
  Term atom;  // 0 when there is no atom of that name

  FieldKey(ErlNifEnv* env, const std::string& name);
  bool get(ErlNifEnv* env, Term map, Term* value) const;
};

// The text of a binary or an atom other than nil; false for anything else.
bool get_name(ErlNifEnv* env, Term term, std::string* out);

// The name in `__struct__` of a map; 0 for one without, and for what is no map.
Term struct_name(ErlNifEnv* env, Term term);

// The coefficient, negative for a negative number, and the exponent of a %Decimal{} or a pair of integers.
bool get_decimal(ErlNifEnv* env, Term term, Term* coefficient, bool* negative, int* exponent);

}  // namespace pythonx
