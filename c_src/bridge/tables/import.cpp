// From Python: capsules, streams, batches.
#include <cerrno>
#include <cstring>

#include "conversion/object.hpp"
#include "python/gil.hpp"
#include "tables/arrow_abi.hpp"
#include "tables/table.hpp"

namespace pythonx {
namespace {

constexpr char owner_capsule[] = "pythonx.arrow_array";

// Releases what it holds at the end of its scope.
template <typename Structure>
struct Released {
  Structure value{};
  Released() = default;
  ~Released() { release(); }
  Released(const Released&) = delete;
  Released& operator=(const Released&) = delete;
  void release() {
    if (value.release != nullptr) value.release(&value);
  }
};

template <typename Structure>
void move_structure(Structure& from, Structure& to) {
  to = from;
  from.release = nullptr;
}

// Called by Python when the capsule goes: attached, and not on a scheduler.
void release_owned(PyObject* capsule) {
  auto* array = static_cast<ArrowArray*>(PyCapsule_GetPointer(capsule, owner_capsule));
  array->release(array);
  delete array;
  count_array(-1);
}

// Takes an array over; nullptr with an exception set.
ArrayPtr own(ArrowArray& source) {
  auto* array = new ArrowArray;
  move_structure(source, *array);
  count_array(1);
  PyObject* capsule = PyCapsule_New(array, owner_capsule, release_owned);
  if (capsule == nullptr) {
    array->release(array);
    delete array;
    count_array(-1);
    return nullptr;
  }
  return {array, [capsule](const ArrowArray*) { drop_later(capsule); }};
}

std::int64_t count_nulls(const ArrowArray& array) {
  if (array.n_buffers < 1 || array.buffers[0] == nullptr) return 0;
  if (array.null_count >= 0) return array.null_count;
  const auto* bits = static_cast<const std::uint8_t*>(array.buffers[0]);
  std::int64_t nulls = 0;
  for (std::int64_t i = array.offset; i < array.offset + array.length; ++i)
    nulls += (bits[i / 8] >> (i % 8) & 1) == 0;
  return nulls;
}

// How many buffers an array of a type has at least.
std::int64_t expected_buffers(const Type& type) {
  switch (type.kind) {
    case Kind::unsupported:
    case Kind::null:
    case Kind::run_end:
      return 0;
    case Kind::structure:
    case Kind::fixed_list:
      return 1;
    case Kind::text:
    case Kind::bytes:
    case Kind::list_view:
    case Kind::text_view:
    case Kind::bytes_view:
      return 3;
    default:
      return 2;
  }
}

// What an array and its type must agree on for anybody to read it.
bool has_shape(const ArrowArray& array, const Type& type) {
  if (array.length < 0 || array.offset < 0 || array.n_buffers < expected_buffers(type)) return false;
  if (array.n_children != static_cast<std::int64_t>(type.children.size())) return false;
  if ((array.dictionary != nullptr) != !type.dictionary.empty()) return false;
  for (std::int64_t i = 0; i < array.n_children; ++i) {
    if (!has_shape(*array.children[i], type.children[static_cast<std::size_t>(i)])) return false;
  }
  return array.dictionary == nullptr || has_shape(*array.dictionary, type.dictionary[0]);
}

class Importer {
 public:
  // From the type of what is read: a struct has the columns as its fields; anything else is one column.
  void set_type(const ArrowSchema& schema) {
    type_ = read_schema(schema);
    tabular_ = type_.kind == Kind::structure && type_.dictionary.empty();
    if (!tabular_) return add_column(type_);
    table_->metadata = type_.metadata;
    for (const Type& field : type_.children) add_column(field);
  }

  // Takes a batch; false with an exception set. The caller releases what is left of it.
  bool add(ArrowArray& batch) {
    if (!has_shape(batch, type_)) {
      PyErr_SetString(PyExc_ValueError, "an Arrow array does not have the buffers and children of its type");
      return false;
    }
    if (tabular_ && count_nulls(batch) > 0) {
      PyErr_SetString(PyExc_ValueError, "an array of structs in which some are null is no table");
      return false;
    }
    const std::int64_t length = batch.length;
    if (!take_columns(batch)) return false;
    if (length > 0) table_->batches.push_back(length);
    table_->rows += length;
    return true;
  }

  TablePtr table() const { return table_; }

 private:
  void add_column(const Type& type) { table_->columns.push_back({std::make_shared<Type>(type), {}}); }

  bool take_columns(ArrowArray& batch) {
    if (!tabular_) return take(table_->columns[0], batch, 0, batch.length);
    for (std::size_t i = 0; i < table_->columns.size(); ++i) {
      if (!take(table_->columns[i], *batch.children[i], batch.offset, batch.length)) return false;
    }
    return true;
  }

  static bool take(Column& column, ArrowArray& source, std::int64_t offset, std::int64_t length) {
    if (source.length < offset + length) {
      PyErr_Format(PyExc_ValueError, "column %s of an Arrow batch is shorter than the batch",
                   column.type->name.c_str());
      return false;
    }
    ArrayPtr array = own(source);
    if (array == nullptr) return false;
    if (length > 0) column.chunks.push_back({array, offset + array->offset, length});
    return true;
  }

  Type type_;
  bool tabular_ = false;
  std::shared_ptr<Table> table_ = std::make_shared<Table>();
};

// The structure in a capsule; nullptr with an exception set, also when somebody has taken it.
template <typename Structure>
Structure* structure_in(PyObject* capsule, const char* name, const char* what) {
  if (!PyCapsule_IsValid(capsule, name)) {
    PyErr_Format(PyExc_TypeError, "expected a capsule named %s, got: %R", name, capsule);
    return nullptr;
  }
  auto* structure = static_cast<Structure*>(PyCapsule_GetPointer(capsule, name));
  if (structure->release != nullptr) return structure;
  PyErr_Format(PyExc_ValueError, "the Arrow %s has been consumed or released already", what);
  return nullptr;
}

// Raises what a stream reports, unless Python code in it has left an exception.
void raise_stream_error(ArrowArrayStream& stream, int code) {
  if (PyErr_Occurred() != nullptr) return;
  const char* text = stream.get_last_error(&stream);
  PyErr_Format(code == ENOMEM ? PyExc_MemoryError : PyExc_RuntimeError, "the Arrow stream failed: %s",
               text == nullptr ? std::strerror(code) : text);
}

// A stream may run code of any kind, on threads of its own too, that takes the GIL: it is called without.
template <typename Structure>
bool ask(ArrowArrayStream& stream, int (*function)(ArrowArrayStream*, Structure*), Structure* out) {
  int code;
  {
    const Detach detached;
    code = function(&stream, out);
  }
  if (code != 0) raise_stream_error(stream, code);
  return code == 0;
}

TablePtr read_stream(PyObject* capsule) {
  auto* source = structure_in<ArrowArrayStream>(capsule, stream_capsule, "stream");
  if (source == nullptr) return nullptr;
  Released<ArrowArrayStream> stream;
  move_structure(*source, stream.value);
  Released<ArrowSchema> schema;
  if (!ask(stream.value, stream.value.get_schema, &schema.value)) return nullptr;
  Importer importer;
  importer.set_type(schema.value);
  while (PyErr_CheckSignals() == 0) {
    Released<ArrowArray> batch;
    if (!ask(stream.value, stream.value.get_next, &batch.value)) return nullptr;
    if (batch.value.release == nullptr) return importer.table();
    if (!importer.add(batch.value)) return nullptr;
  }
  return nullptr;
}

TablePtr read_array(PyObject* capsules) {
  if (!PyTuple_Check(capsules) || PyTuple_GET_SIZE(capsules) != 2) {
    PyErr_SetString(PyExc_TypeError, "__arrow_c_array__ must return two capsules");
    return nullptr;
  }
  auto* schema = structure_in<ArrowSchema>(PyTuple_GET_ITEM(capsules, 0), schema_capsule, "schema");
  if (schema == nullptr) return nullptr;
  auto* source = structure_in<ArrowArray>(PyTuple_GET_ITEM(capsules, 1), array_capsule, "array");
  if (source == nullptr) return nullptr;
  Importer importer;
  importer.set_type(*schema);
  Released<ArrowArray> batch;
  move_structure(*source, batch.value);
  return importer.add(batch.value) ? importer.table() : nullptr;
}

// Whether the class of an object has a method of that name: protocols are of classes.
bool offers(PyObject* object, const char* method) {
  return !PyType_Check(object) &&
         PyObject_HasAttrString(reinterpret_cast<PyObject*>(Py_TYPE(object)), method) != 0;
}

TablePtr read_result(PyObject* result, TablePtr (*read)(PyObject*)) {
  if (result == nullptr) return nullptr;
  TablePtr table = read(result);
  Py_DECREF(result);
  return table;
}

// Whether a class is one of a library, given as the beginning of a module's name.
bool is_class_of(PyObject* cls, const char* library) {
  PyObject* module = PyObject_GetAttrString(cls, "__module__");
  const char* name = module != nullptr && PyUnicode_Check(module) ? PyUnicode_AsUTF8(module) : nullptr;
  const bool result = name != nullptr && std::strncmp(name, library, std::strlen(library)) == 0;
  Py_XDECREF(module);
  PyErr_Clear();
  return result;
}

// Whether an object is an instance of a class of a library, or of one that is derived from it.
bool is_of(PyObject* object, const char* library) {
  PyObject* classes = PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(object)), "__mro__");
  bool result = false;
  if (classes != nullptr && PyTuple_Check(classes)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(classes) && !result; ++i)
      result = is_class_of(PyTuple_GET_ITEM(classes, i), library);
  }
  Py_XDECREF(classes);
  PyErr_Clear();
  return result;
}

// Polars ends the process when it is asked for a column of Python objects: those are refused before.
bool check_polars(PyObject* object) {
  PyObject* modules = PyImport_GetModuleDict();
  if (PyDict_GetItemString(modules, "polars") == nullptr) return true;
  PyObject* module = PyImport_ImportModule("pythonx._tables");
  PyObject* result = module == nullptr ? nullptr : PyObject_CallMethod(module, "refuse_objects", "O", object);
  Py_XDECREF(module);
  Py_XDECREF(result);
  return result != nullptr;
}

// What to do with an object of which a table can be had, though not from itself.
const char* advice(PyObject* object) {
  if (offers(object, "to_frame")) return "; call its method to_frame() first";
  if (offers(object, "to_table")) return "; call its method to_table() first";
  return is_of(object, "polars.") && offers(object, "collect") ? "; call its method collect() first" : "";
}

}  // namespace

TablePtr import_table(PyObject* object) {
  if (TablePtr table = get_table(object)) return table;
  if (PyCapsule_CheckExact(object)) return read_stream(object);
  if (offers(object, "__arrow_c_stream__")) {
    if (!check_polars(object)) return nullptr;
    return read_result(PyObject_CallMethod(object, "__arrow_c_stream__", nullptr), read_stream);
  }
  if (offers(object, "__arrow_c_array__")) {
    return read_result(PyObject_CallMethod(object, "__arrow_c_array__", nullptr), read_array);
  }
  PyErr_Format(PyExc_TypeError, "expected an object with __arrow_c_stream__ or __arrow_c_array__, got: %s%s",
               Py_TYPE(object)->tp_name, advice(object));
  return nullptr;
}

PyObject* table_of(PyObject* object, Copy copy) {
  TablePtr table = import_table(object);
  if (table == nullptr) return nullptr;
  if (copy == Copy::always || (copy == Copy::if_mutable && is_of(object, "pandas."))) {
    const Detach detached;
    table = copy_of(*table);
  }
  return make_table_object(std::move(table));
}

}  // namespace pythonx
