#include "memory/buffer.hpp"

#include <Python.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "conversion/error.hpp"
#include "conversion/object.hpp"
#include "python/gil.hpp"
#include "python/package.hpp"

namespace pythonx {
namespace {

// A smaller binary that keeps a Python object alive costs more than a copy; the same bound as that of `bytes`.
constexpr Py_ssize_t smallest_shared = 512;

// Copies from this size on let other threads have the GIL meanwhile.
constexpr Py_ssize_t large_copy = 1 << 16;

// What pythonx._buffers.export tells of an object; all references are borrowed from its tuple.
struct Export {
  const Py_buffer* view;
  PyObject* owner;  // the memoryview that the view is of
  PyObject* kind;
  PyObject* bits;
  PyObject* format;
  Py_ssize_t swap;  // the size of the units whose bytes are in the wrong order, 0 for none
  bool constant;    // nobody can change the memory
};

struct Wanted {
  bool copy;
  bool c_order;
};

Export read_export(PyObject* tuple) {
  PyObject* owner = PyTuple_GET_ITEM(tuple, 0);
  return {PyMemoryView_GET_BUFFER(owner),       owner,
          PyTuple_GET_ITEM(tuple, 1),           PyTuple_GET_ITEM(tuple, 2),
          PyTuple_GET_ITEM(tuple, 3),           PyLong_AsSsize_t(PyTuple_GET_ITEM(tuple, 4)),
          PyTuple_GET_ITEM(tuple, 5) == Py_True};
}

template <typename Item>
void gather_row(const char* from, Py_ssize_t count, Py_ssize_t stride, char* out) {
  for (Py_ssize_t i = 0; i < count; ++i) std::memcpy(out + i * sizeof(Item), from + i * stride, sizeof(Item));
}

void gather_items(const char* from, Py_ssize_t count, Py_ssize_t stride, Py_ssize_t item, char* out) {
  if (stride == item) {
    std::memcpy(out, from, static_cast<std::size_t>(count * item));
  } else if (item == 8) {
    gather_row<std::uint64_t>(from, count, stride, out);
  } else if (item == 4) {
    gather_row<std::uint32_t>(from, count, stride, out);
  } else {
    const auto size = static_cast<std::size_t>(item);
    for (Py_ssize_t i = 0; i < count; ++i) std::memcpy(out + i * item, from + i * stride, size);
  }
}

// Writes the elements from an axis on in C order; returns where the next ones go. At most 64 calls deep: that is how many
// dimensions a buffer may have.
char* gather(const Py_buffer& view, int axis, const char* from, char* out) {
  const Py_ssize_t count = view.shape[axis];
  const Py_ssize_t stride = view.strides[axis];
  if (axis == view.ndim - 1) {
    gather_items(from, count, stride, view.itemsize, out);
    return out + count * view.itemsize;
  }
  for (Py_ssize_t i = 0; i < count; ++i) out = gather(view, axis + 1, from + i * stride, out);
  return out;
}

void swap_bytes(char* data, Py_ssize_t size, Py_ssize_t unit) {
  for (char* end = data + size; data < end; data += unit) std::reverse(data, data + unit);
}

// Copies the memory: as it lies when it is one piece, otherwise in C order. Neither needs the GIL: the memory is locked.
void copy_out(const Export& exported, bool one_piece, char* out) {
  const Py_buffer& view = *exported.view;
  const auto work = [&] {
    if (one_piece) {
      std::memcpy(out, view.buf, static_cast<std::size_t>(view.len));
    } else {
      gather(view, 0, static_cast<const char*>(view.buf), out);
    }
    if (exported.swap > 0) swap_bytes(out, view.len, exported.swap);
  };
  if (view.len < large_copy) {
    work();
  } else {
    const Detach detached;
    work();
  }
}

Term sizes(ErlNifEnv* env, const Py_ssize_t* values, int count) {
  std::vector<Term> terms(static_cast<std::size_t>(count));
  std::transform(values, values + count, terms.begin(),
                 [env](Py_ssize_t value) { return enif_make_int64(env, value); });
  return enif_make_tuple_from_array(env, terms.data(), static_cast<unsigned>(count));
}

Term c_strides(ErlNifEnv* env, const Py_buffer& view) {
  std::vector<Py_ssize_t> strides(static_cast<std::size_t>(view.ndim));
  Py_ssize_t stride = view.itemsize;
  for (auto i = strides.size(); i-- > 0; stride *= view.shape[i]) strides[i] = stride;
  return sizes(env, strides.data(), view.ndim);
}

bool is_one_piece(const Py_buffer& view, bool c_order) {
  return PyBuffer_IsContiguous(&view, 'C') != 0 || (!c_order && PyBuffer_IsContiguous(&view, 'F') != 0);
}

// A binary with a copy of the memory. 0 with MemoryError set: an array may be larger than all memory there is, when its
// elements lie in one place, and the VM ends itself where a binary that it has to make does not fit.
Term make_copy_of(ErlNifEnv* env, const Export& exported, bool one_piece) {
  const auto size = static_cast<std::size_t>(exported.view->len);
  Term data;
  if (exported.view->len < large_copy) {
    unsigned char* out = enif_make_new_binary(env, size, &data);
    if (size > 0) copy_out(exported, one_piece, reinterpret_cast<char*>(out));
    return data;
  }
  ErlNifBinary binary;
  if (!enif_alloc_binary(size, &binary)) {
    PyErr_Format(PyExc_MemoryError, "unable to allocate %zu bytes for a copy", size);
    return 0;
  }
  copy_out(exported, one_piece, reinterpret_cast<char*>(binary.data));
  return enif_make_binary(env, &binary);
}

// 0 with an exception set when there is no memory for it.
Term make_reply(ErlNifEnv* env, const Export& exported, Wanted wanted) {
  const Py_buffer& view = *exported.view;
  const bool one_piece = is_one_piece(view, wanted.c_order);
  const bool shared =
      one_piece && exported.swap == 0 && view.len >= smallest_shared && (exported.constant || !wanted.copy);
  const Term data = shared ? make_binary_over(env, exported.owner, static_cast<const char*>(view.buf),
                                              static_cast<std::size_t>(view.len))
                           : make_copy_of(env, exported, one_piece);
  if (data == 0) return 0;
  const Term strides = one_piece ? sizes(env, view.strides, view.ndim) : c_strides(env, view);
  return make_tuple(
      env, atoms.ok,
      make_tuple(env, data, sizes(env, view.shape, view.ndim), strides, make_text(env, exported.kind),
                 enif_make_int64(env, PyLong_AsLongLong(exported.bits)), make_text(env, exported.format),
                 view.readonly != 0 ? atoms.true_ : atoms.false_, shared ? atoms.false_ : atoms.true_));
}

// What pythonx._buffers.export returns: a tuple, or a str that says why not.
PyObject* export_object(PyObject* object) {
  PyObject* module = package_module("pythonx._buffers");
  PyObject* result = module == nullptr ? nullptr : PyObject_CallMethod(module, "export", "O", object);
  Py_XDECREF(module);
  return result;
}

}  // namespace

Term buffer(ErlNifEnv* env, Term arguments) {
  const Term* items;
  int arity;
  enif_get_tuple(env, arguments, &arity, &items);
  PyObject* object = get_object(env, items[0]);
  PyObject* result = export_object(object);
  if (result == nullptr) return error_reply(env, Frames::internal);
  Term reply;
  if (PyTuple_Check(result)) {
    reply = make_reply(env, read_export(result), {items[1] == atoms.true_, items[2] == atoms.true_});
  } else {
    reply = make_tuple(env, atoms.argument_error, make_text(env, result));
  }
  Py_DECREF(result);
  return reply == 0 ? error_reply(env, Frames::internal) : reply;
}

}  // namespace pythonx
