#include "memory/view.hpp"

#include <new>
#include <string>
#include <vector>

#include "python/type.hpp"

namespace pythonx {
namespace {

struct Binary {
  PyObject_HEAD ErlNifEnv* env;
  const char* data;
  Py_ssize_t size;
};

struct Shape {
  std::string format;
  std::vector<Py_ssize_t> lengths;
  std::vector<Py_ssize_t> strides;
  Py_ssize_t itemsize;
  Py_ssize_t bytes;
};

struct Memory {
  PyObject_HEAD PyObject* owner;
  const char* address;
  Shape* shape;
  bool readonly;
};

PyTypeObject* binary_type = nullptr;
PyTypeObject* memory_type = nullptr;

Binary* as_binary(PyObject* object) { return reinterpret_cast<Binary*>(object); }
Memory* as_memory(PyObject* object) { return reinterpret_cast<Memory*>(object); }

int get_binary_buffer(PyObject* self, Py_buffer* view, int flags) noexcept {
  Binary* binary = as_binary(self);
  // Python has no pointers to constant memory; what makes it constant is the flag.
  return PyBuffer_FillInfo(view, self, const_cast<char*>(binary->data), binary->size, 1, flags);
}

void free_binary(PyObject* self) noexcept {
  if (as_binary(self)->env != nullptr) enif_free_env(as_binary(self)->env);
  free_instance(self);
}

PyObject* show_binary(PyObject* self) noexcept {
  return PyUnicode_FromFormat("<pythonx.Binary of %zd bytes>", as_binary(self)->size);
}

int refuse_buffer(Py_buffer* view, const char* text) {
  view->obj = nullptr;
  PyErr_SetString(PyExc_BufferError, text);
  return -1;
}

// Whether the elements lie as a consumer can use them. Who does not ask for strides counts on the order of C.
bool is_as_wanted(const Py_buffer& view, int flags) {
  const auto wants = [flags](int all) { return (flags & all) == all; };
  if (!wants(PyBUF_STRIDES) || wants(PyBUF_C_CONTIGUOUS)) return PyBuffer_IsContiguous(&view, 'C') != 0;
  if (wants(PyBUF_F_CONTIGUOUS)) return PyBuffer_IsContiguous(&view, 'F') != 0;
  return !wants(PyBUF_ANY_CONTIGUOUS) || PyBuffer_IsContiguous(&view, 'A') != 0;
}

// The full description is always given, as far as it was asked for: who asks for less must be able to do with less.
int get_memory_buffer(PyObject* self, Py_buffer* view, int flags) noexcept {
  Memory* memory = as_memory(self);
  Shape* shape = memory->shape;
  if (memory->readonly && (flags & PyBUF_WRITABLE) != 0)
    return refuse_buffer(view, "the memory is read-only");
  *view = {};
  view->buf = const_cast<char*>(memory->address);
  view->len = shape->bytes;
  view->itemsize = shape->itemsize;
  view->readonly = memory->readonly ? 1 : 0;
  view->ndim = static_cast<int>(shape->lengths.size());
  view->format = shape->format.data();
  view->shape = shape->lengths.data();
  view->strides = shape->strides.data();
  if (!is_as_wanted(*view, flags)) return refuse_buffer(view, "the memory is not contiguous");
  if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES) view->strides = nullptr;
  if ((flags & PyBUF_ND) == 0) view->shape = nullptr;
  if ((flags & PyBUF_FORMAT) == 0) view->format = nullptr;
  Py_INCREF(self);
  view->obj = self;
  return 0;
}

void free_memory(PyObject* self) noexcept {
  Py_DECREF(as_memory(self)->owner);
  delete as_memory(self)->shape;
  free_instance(self);
}

const char binary_doc[] = "A binary of Elixir: read-only memory, seen through memoryview.";
const char memory_doc[] = "Memory that another object keeps alive, seen through memoryview.";

PyType_Slot binary_slots[] = {
    {Py_tp_doc, const_cast<char*>(binary_doc)},
    {Py_tp_repr, slot(show_binary)},
    {Py_tp_dealloc, slot(free_binary)},
    {Py_bf_getbuffer, slot(get_binary_buffer)},
    {0, nullptr},
};

PyType_Slot memory_slots[] = {
    {Py_tp_doc, const_cast<char*>(memory_doc)},
    {Py_tp_dealloc, slot(free_memory)},
    {Py_bf_getbuffer, slot(get_memory_buffer)},
    {0, nullptr},
};

PyType_Spec binary_spec = {"pythonx.Binary", sizeof(Binary), 0, closed_type, binary_slots};
PyType_Spec memory_spec = {"pythonx.Memory", sizeof(Memory), 0, closed_type, memory_slots};

bool read_sizes(PyObject* tuple, std::vector<Py_ssize_t>* out) {
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); ++i) {
    const Py_ssize_t size = PyNumber_AsSsize_t(PyTuple_GET_ITEM(tuple, i), PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred() != nullptr) return false;
    out->push_back(size);
  }
  return true;
}

bool multiply(const Shape& shape, Py_ssize_t* out) {
  *out = shape.itemsize;
  for (const Py_ssize_t length : shape.lengths) {
    if (length < 0 || __builtin_mul_overflow(*out, length, out)) {
      PyErr_SetString(PyExc_OverflowError, "the shape of the memory is larger than any memory");
      return false;
    }
  }
  return true;
}

bool read_shape(const MemoryLayout& layout, Shape* shape) {
  Py_ssize_t size;
  const char* format = PyUnicode_AsUTF8AndSize(layout.format, &size);
  if (format == nullptr) return false;
  shape->format.assign(format, static_cast<std::size_t>(size));
  shape->itemsize = layout.itemsize;
  if (!read_sizes(layout.shape, &shape->lengths) || !read_sizes(layout.strides, &shape->strides))
    return false;
  if (shape->lengths.size() != shape->strides.size() || shape->lengths.size() > PyBUF_MAX_NDIM) {
    PyErr_SetString(PyExc_ValueError, "the memory has as many strides as dimensions, and at most 64");
    return false;
  }
  return multiply(*shape, &shape->bytes);
}

PyObject* view_of(PyObject* exporter) {
  PyObject* view = exporter == nullptr ? nullptr : PyMemoryView_FromObject(exporter);
  Py_XDECREF(exporter);
  return view;
}

}  // namespace

bool init_view_types() {
  return make_type(&binary_type, &binary_spec) && make_type(&memory_type, &memory_spec);
}

PyObject* make_memoryview(Term term) {
  Binary* self = PyObject_New(Binary, binary_type);
  if (self == nullptr) return nullptr;
  self->env = enif_alloc_env();
  ErlNifBinary binary;
  // A binary that begins inside of a byte is copied by this, into the environment.
  if (!enif_inspect_binary(self->env, enif_make_copy(self->env, term), &binary)) binary.size = 0;
  self->size = static_cast<Py_ssize_t>(binary.size);
  self->data = binary.size == 0 ? "" : reinterpret_cast<const char*>(binary.data);
  return view_of(reinterpret_cast<PyObject*>(self));
}

PyObject* make_memory_view(const MemoryLayout& layout) {
  auto* shape = new Shape;
  Memory* self = read_shape(layout, shape) ? PyObject_New(Memory, memory_type) : nullptr;
  if (self == nullptr) {
    delete shape;
    return nullptr;
  }
  Py_INCREF(layout.owner);
  self->owner = layout.owner;
  self->address = layout.address == nullptr ? "" : layout.address;
  self->shape = shape;
  self->readonly = layout.readonly;
  return view_of(reinterpret_cast<PyObject*>(self));
}

}  // namespace pythonx
