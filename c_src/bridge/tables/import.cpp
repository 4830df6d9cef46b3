// From Python: capsules, streams, batches.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>

#include "conversion/object.hpp"
#include "conversion/text.hpp"
#include "python/gil.hpp"
#include "python/package.hpp"
#include "tables/arrow_abi.hpp"
#include "tables/check.hpp"
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

// Whether the names of a type and of those in it are text.
bool has_names(const Type& type) {
  const auto* name = reinterpret_cast<const unsigned char*>(type.name.data());
  TextShape shape;
  if (!is_ascii(name, type.name.size()) && !measure_utf8(name, type.name.size(), &shape)) return false;
  return std::all_of(type.children.begin(), type.children.end(), has_names) &&
         std::all_of(type.dictionary.begin(), type.dictionary.end(), has_names);
}

class Importer {
 public:
  // From the type of what is read: a struct has the columns as its fields; anything else is one column. False with an
  // exception set.
  bool set_type(const ArrowSchema& schema) {
    type_ = read_schema(schema);
    tabular_ = type_.kind == Kind::structure && type_.dictionary.empty();
    if (!tabular_) return add_column(type_);
    table_->metadata = type_.metadata;
    return std::all_of(type_.children.begin(), type_.children.end(),
                       [this](const Type& field) { return add_column(field); });
  }

  // Takes a batch; false with an exception set. The caller releases what is left of it.
  bool add(ArrowArray& batch) {
    if (tabular_) {
      const std::string wrong = check_frame(type_, batch);
      if (!wrong.empty()) {
        PyErr_Format(PyExc_ValueError, "an Arrow batch is damaged: %s", wrong.c_str());
        return false;
      }
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
  bool add_column(const Type& type) {
    table_->columns.push_back({std::make_shared<Type>(type), {}});
    if (has_names(type)) return true;
    PyErr_Format(PyExc_ValueError, "column %zu of an Arrow batch has a name that is not UTF-8",
                 table_->columns.size() - 1);
    return false;
  }

  bool take_columns(ArrowArray& batch) {
    if (!tabular_) return take(table_->columns[0], batch, 0, batch.length);
    for (std::size_t i = 0; i < table_->columns.size(); ++i) {
      if (!take(table_->columns[i], *batch.children[i], batch.offset, batch.length)) return false;
    }
    return true;
  }

  bool take(Column& column, ArrowArray& source, std::int64_t offset, std::int64_t length) {
    const std::string wrong = check(*column.type, source, offset, length);
    if (!wrong.empty()) {
      PyErr_Format(PyExc_ValueError, "column '%s' of an Arrow batch is damaged: %s",
                   column.type->name.c_str(), wrong.c_str());
      return false;
    }
    ArrayPtr array = own(source);
    if (array == nullptr) return false;
    if (length > 0) column.chunks.push_back({array, offset + array->offset, length});
    return true;
  }

  std::string check(const Type& type, const ArrowArray& array, std::int64_t offset, std::int64_t length) {
    const Detach detached;
    std::string wrong = check_shape(type, array);
    if (!wrong.empty()) return wrong;
    if (array.length < offset + length)
      return "it has " + std::to_string(array.length) + " values, the batch " +
             std::to_string(offset + length) + " rows";
    return values_.check(type, array, offset + array.offset, offset + array.offset + length);
  }

  Type type_;
  ValueCheck values_;
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
  if (!importer.set_type(schema.value)) return nullptr;
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
  Released<ArrowArray> batch;
  move_structure(*source, batch.value);
  if (!importer.set_type(*schema)) return nullptr;
  return importer.add(batch.value) ? importer.table() : nullptr;
}

// Whether the class of an object has a method of that name: protocols are of classes.
bool offers(PyObject* object, const char* method) {
  return !PyType_Check(object) &&
         PyObject_HasAttrString(reinterpret_cast<PyObject*>(Py_TYPE(object)), method) != 0;
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

// What libraries can say of their data, and the interface does not: priv/python/pythonx/_tables.py. A new reference to what to
// read in place of an object; nullptr with an exception set for what is refused.
PyObject* checked(PyObject* object) {
  PyObject* modules = PyImport_GetModuleDict();
  if (PyDict_GetItemString(modules, "polars") == nullptr &&
      PyDict_GetItemString(modules, "pyarrow") == nullptr)
    return Py_NewRef(object);
  PyObject* module = package_module("pythonx._tables");
  PyObject* result = module == nullptr ? nullptr : PyObject_CallMethod(module, "checked", "O", object);
  Py_XDECREF(module);
  return result;
}

TablePtr read_offer(PyObject* object, const char* method, TablePtr (*read)(PyObject*)) {
  PyObject* source = checked(object);
  if (source == nullptr) return nullptr;
  PyObject* result = PyObject_CallMethod(source, method, nullptr);
  Py_DECREF(source);
  if (result == nullptr) return nullptr;
  TablePtr table = read(result);
  Py_DECREF(result);
  return table;
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
  if (offers(object, "__arrow_c_stream__")) return read_offer(object, "__arrow_c_stream__", read_stream);
  if (offers(object, "__arrow_c_array__")) return read_offer(object, "__arrow_c_array__", read_array);
  PyErr_Format(PyExc_TypeError, "expected an object with __arrow_c_stream__ or __arrow_c_array__, got: %s%s",
               Py_TYPE(object)->tp_name, advice(object));
  return nullptr;
}

namespace {

// What an array says of its size need not be true. nullptr where there is no memory for it.
TablePtr copied(const Table& table) {
  const Detach detached;
  try {
    return copy_of(table);
  } catch (const std::bad_alloc&) {
    return nullptr;
  } catch (const std::length_error&) {
    return nullptr;
  }
}

}  // namespace

PyObject* table_of(PyObject* object, Copy copy) {
  TablePtr table = import_table(object);
  if (table == nullptr) return nullptr;
  if (copy == Copy::always || (copy == Copy::if_mutable && is_of(object, "pandas."))) {
    table = copied(*table);
    if (table == nullptr) return PyErr_NoMemory();
  }
  return make_table_object(std::move(table));
}

}  // namespace pythonx
