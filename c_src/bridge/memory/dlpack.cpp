#include "memory/dlpack.hpp"

#include <cstdint>

namespace pythonx {
namespace {

// The ABI of the standard, https://dmlc.github.io/dlpack/latest/c_api.html.
struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  std::int32_t device_type;
  std::int32_t device_id;
  std::int32_t dimensions;
  DataType type;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; nullptr when the tensor is compact and in C order
  std::uint64_t byte_offset;
};

struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};

struct VersionedManaged {
  std::uint32_t major;
  std::uint32_t minor;
  void* context;
  void (*deleter)(VersionedManaged*);
  std::uint64_t flags;
  Tensor tensor;
};

constexpr std::uint64_t read_only = 1;
constexpr const char* name = "dltensor";
constexpr const char* versioned_name = "dltensor_versioned";

// Borrowed from the capsule; nullptr with an exception set.
const Tensor* tensor_of(PyObject* capsule, bool* readonly) {
  *readonly = false;
  if (PyCapsule_IsValid(capsule, versioned_name) == 0) {
    auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
    return managed == nullptr ? nullptr : &managed->tensor;
  }
  auto* managed = static_cast<VersionedManaged*>(PyCapsule_GetPointer(capsule, versioned_name));
  if (managed->major != 1) {
    PyErr_Format(PyExc_BufferError, "version %u of DLPack is not known here", managed->major);
    return nullptr;
  }
  *readonly = (managed->flags & read_only) != 0;
  return &managed->tensor;
}

bool set(PyObject* tuple, Py_ssize_t index, long long value) {
  PyObject* item = PyLong_FromLongLong(value);
  if (item == nullptr) return false;
  PyTuple_SET_ITEM(tuple, index, item);
  return true;
}

PyObject* shape_of(const Tensor& tensor) {
  PyObject* shape = PyTuple_New(tensor.dimensions);
  for (int i = 0; shape != nullptr && i < tensor.dimensions; ++i) {
    if (!set(shape, i, tensor.shape[i])) Py_CLEAR(shape);
  }
  return shape;
}

PyObject* strides_of(const Tensor& tensor) {
  PyObject* strides = PyTuple_New(tensor.dimensions);
  const std::int64_t item = (tensor.type.bits + 7) / 8;
  std::int64_t compact = item;
  for (int i = tensor.dimensions - 1; strides != nullptr && i >= 0; --i) {
    if (!set(strides, i, tensor.strides == nullptr ? compact : tensor.strides[i] * item)) Py_CLEAR(strides);
    compact *= tensor.shape[i];
  }
  return strides;
}

}  // namespace

PyObject* read_dlpack(PyObject* capsule) {
  bool readonly;
  const Tensor* tensor = tensor_of(capsule, &readonly);
  if (tensor == nullptr) return nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(tensor->data) + tensor->byte_offset;
  return Py_BuildValue("(KiiiNNOi)", static_cast<unsigned long long>(address), tensor->type.code,
                       tensor->type.bits, tensor->type.lanes, shape_of(*tensor), strides_of(*tensor),
                       readonly ? Py_True : Py_False, tensor->device_type);
}

}  // namespace pythonx
