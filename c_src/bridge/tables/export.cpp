// To Python: pythonx.Table, and the streams that it offers.
//
// Ownership. Each exported structure, children too, owns a node with what it points to, and in it a shared pointer to the
// array whose buffers it shows; so a consumer may move any of them away and release it on whichever thread it likes.
#include <cerrno>
#include <new>

#include "python/no_throw.hpp"
#include "python/type.hpp"
#include "tables/arrow_abi.hpp"
#include "tables/table.hpp"

namespace pythonx {
namespace {

struct SchemaNode {
  std::string format;
  std::string name;
  std::string metadata;
  std::vector<ArrowSchema> children;
  std::vector<ArrowSchema*> pointers;
  ArrowSchema dictionary{};
};

struct ArrayNode {
  ArrayPtr owner;
  std::vector<ArrowArray> children;
  std::vector<ArrowArray*> pointers;
  ArrowArray dictionary{};
  const void* no_buffer = nullptr;
};

// Both kinds: what was not moved away is released with its parent.
template <typename Structure, typename Node>
void release_structure(Structure* structure) {
  auto* node = static_cast<Node*>(structure->private_data);
  for (Structure& child : node->children) {
    if (child.release != nullptr) child.release(&child);
  }
  if (node->dictionary.release != nullptr) node->dictionary.release(&node->dictionary);
  delete node;
  structure->release = nullptr;
}

template <typename Structure, typename Node>
void adopt_children(Structure& structure, Node* node) {
  for (auto& child : node->children) node->pointers.push_back(&child);
  structure.n_children = static_cast<std::int64_t>(node->children.size());
  structure.children = node->pointers.data();
  structure.dictionary = node->dictionary.release == nullptr ? nullptr : &node->dictionary;
  structure.release = release_structure<Structure, Node>;
  structure.private_data = node;
}

ArrowSchema export_schema(const Type& type) {
  auto* node = new SchemaNode{type.format, type.name, type.metadata, {}, {}, {}};
  for (const Type& child : type.children) node->children.push_back(export_schema(child));
  if (!type.dictionary.empty()) node->dictionary = export_schema(type.dictionary[0]);
  ArrowSchema schema{};
  schema.format = node->format.c_str();
  schema.name = node->name.c_str();
  schema.metadata = node->metadata.empty() ? nullptr : node->metadata.data();
  schema.flags = type.flags;
  adopt_children(schema, node);
  return schema;
}

ArrowSchema export_table_schema(const Table& table) {
  Type type;
  type.format = "+s";
  type.flags = 0;
  type.metadata = table.metadata;
  for (const Column& column : table.columns) type.children.push_back(*column.type);
  return export_schema(type);
}

// The same array once more, with `owner` to keep what it shows.
ArrowArray export_array(const ArrowArray& source, const ArrayPtr& owner) {
  auto* node = new ArrayNode{owner, {}, {}, {}};
  for (std::int64_t i = 0; i < source.n_children; ++i)
    node->children.push_back(export_array(*source.children[i], owner));
  if (source.dictionary != nullptr) node->dictionary = export_array(*source.dictionary, owner);
  ArrowArray array = source;
  adopt_children(array, node);
  return array;
}

ArrowArray export_chunk(const Chunk& chunk) {
  ArrowArray array = export_array(*chunk.array, chunk.array);
  if (array.length != chunk.length && array.null_count != 0) array.null_count = -1;
  array.length = chunk.length;
  array.offset = chunk.offset;
  return array;
}

ArrowArray export_batch(const Table& table, std::size_t index) {
  auto* node = new ArrayNode;
  for (const Column& column : table.columns) node->children.push_back(export_chunk(column.chunks[index]));
  ArrowArray array{};
  array.length = table.batches[index];
  array.n_buffers = 1;
  array.buffers = &node->no_buffer;
  adopt_children(array, node);
  return array;
}

struct StreamState {
  TablePtr table;
  std::size_t next = 0;
};

StreamState* state_of(ArrowArrayStream* stream) { return static_cast<StreamState*>(stream->private_data); }

// The consumer may be C code: no exception of C++ may reach it.
template <typename Function>
int guarded(Function function) noexcept {
  try {
    function();
    return 0;
  } catch (...) {
    return ENOMEM;
  }
}

int stream_schema(ArrowArrayStream* stream, ArrowSchema* out) noexcept {
  return guarded([&] { *out = export_table_schema(*state_of(stream)->table); });
}

int stream_next(ArrowArrayStream* stream, ArrowArray* out) noexcept {
  return guarded([&] {
    StreamState* state = state_of(stream);
    const bool more = state->next < state->table->batches.size();
    *out = more ? export_batch(*state->table, state->next++) : ArrowArray{};
  });
}

const char* stream_error(ArrowArrayStream*) noexcept { return "out of memory"; }

void stream_release(ArrowArrayStream* stream) noexcept {
  delete state_of(stream);
  stream->release = nullptr;
}

// The destructor of a capsule: what nobody has taken is released.
template <typename Structure>
void discard(PyObject* capsule) {
  auto* structure = static_cast<Structure*>(PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)));
  if (structure->release != nullptr) structure->release(structure);
  delete structure;
}

template <typename Structure>
PyObject* capsule_of(Structure* structure, const char* name) {
  PyObject* capsule = PyCapsule_New(structure, name, discard<Structure>);
  if (capsule != nullptr) return capsule;
  structure->release(structure);
  delete structure;
  return nullptr;
}

struct TableObject {
  PyObject_HEAD TablePtr table;
};

PyTypeObject* type = nullptr;

const Table& table_in(PyObject* self) { return *reinterpret_cast<TableObject*>(self)->table; }

// A type that the consumer would rather have may be asked for, and need not be given.
PyObject* arrow_stream(PyObject* self, PyObject* arguments, PyObject* keywords) {
  static const char* names[] = {"requested_schema", nullptr};
  PyObject* requested;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:__arrow_c_stream__", const_cast<char**>(names),
                                   &requested))
    return nullptr;
  auto* stream = new ArrowArrayStream{stream_schema, stream_next, stream_error, stream_release,
                                      new StreamState{reinterpret_cast<TableObject*>(self)->table}};
  return capsule_of(stream, stream_capsule);
}

PyObject* arrow_schema(PyObject* self, PyObject*) {
  return capsule_of(new ArrowSchema(export_table_schema(table_in(self))), schema_capsule);
}

Py_ssize_t length(PyObject* self) noexcept { return table_in(self).rows; }

PyObject* column_names(PyObject* self, void*) {
  PyObject* list = PyList_New(0);
  for (const Column& column : table_in(self).columns) {
    PyObject* name = list == nullptr ? nullptr : PyUnicode_FromString(column.type->name.c_str());
    if (name == nullptr || PyList_Append(list, name) < 0) Py_CLEAR(list);
    Py_XDECREF(name);
  }
  return list;
}

PyObject* repr(PyObject* self) {
  PyObject* names = column_names(self, nullptr);
  if (names == nullptr) return nullptr;
  PyObject* text = PyUnicode_FromFormat("<pythonx.Table of %zd rows, columns %R>", length(self), names);
  Py_DECREF(names);
  return text;
}

void dealloc(PyObject* self) {
  reinterpret_cast<TableObject*>(self)->table.~TablePtr();
  free_instance(self);
}

template <typename Function>
PyCFunction method(Function* function) noexcept {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(function));
}

PyMethodDef methods[] = {
    {"__arrow_c_stream__", method(no_throw<arrow_stream>), METH_VARARGS | METH_KEYWORDS,
     "The table as a stream of record batches, which share its memory."},
    {"__arrow_c_schema__", no_throw<arrow_schema>, METH_NOARGS, "The names and types of the columns."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef attributes[] = {
    {"column_names", column_names, nullptr, "The names of the columns, in order.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const char doc[] =
    "A table of Elixir's. Whatever reads Arrow data takes it: pyarrow.table(t), polars.DataFrame(t), duckdb.";

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>(doc)},
    {Py_tp_repr, slot(repr)},
    {Py_sq_length, slot(length)},
    {Py_tp_dealloc, slot(dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, nullptr},
};

PyType_Spec spec = {"pythonx.Table", sizeof(TableObject), 0, closed_type, slots};

}  // namespace

bool init_table_type() { return make_type(&type, &spec); }

PyTypeObject* table_type() { return type; }

PyObject* make_table_object(TablePtr table) {
  TableObject* self = PyObject_New(TableObject, type);
  if (self == nullptr) return nullptr;
  new (&self->table) TablePtr(std::move(table));
  return reinterpret_cast<PyObject*>(self);
}

TablePtr get_table(PyObject* object) {
  return Py_TYPE(object) == type ? reinterpret_cast<TableObject*>(object)->table : nullptr;
}

}  // namespace pythonx
