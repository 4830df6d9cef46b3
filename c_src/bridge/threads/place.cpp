#include "threads/place.hpp"

#include <frameobject.h>

#include <atomic>

namespace pythonx {
namespace {

constexpr int hub_depth = 8;   // of the callbacks of a hub
constexpr int deepest = 1000;  // of greenlets: a class of the user's may say anything of its parent

PyObject* number_variable = nullptr;
std::atomic<PyObject*> hub_code{nullptr};    // of the function that gevent's hub runs
std::atomic<PyObject*> getcurrent{nullptr};  // greenlet's, once somebody has imported it; kept for ever

std::uint64_t number_in(PyObject* value) {
  const std::uint64_t number =
      value == nullptr || !PyLong_Check(value) ? 0 : PyLong_AsUnsignedLongLong(value);
  if (PyErr_Occurred()) PyErr_Clear();
  return number;
}

// What asks is not to change what is asked about: the exception that is set, if any.
class KeptException {
 public:
  KeptException() { PyErr_Fetch(&type_, &value_, &traceback_); }
  ~KeptException() { PyErr_Restore(type_, value_, traceback_); }
  KeptException(const KeptException&) = delete;
  KeptException& operator=(const KeptException&) = delete;

 private:
  PyObject* type_;
  PyObject* value_;
  PyObject* traceback_;
};

}  // namespace

bool init_places() {
  number_variable = PyContextVar_New("pythonx_job", nullptr);
  return number_variable != nullptr;
}

void use_greenlets(PyObject* function) { getcurrent = Py_NewRef(function); }

bool greenlets_in_use() { return getcurrent.load(std::memory_order_relaxed) != nullptr; }

std::vector<GreenletId> greenlet_lineage() {
  if (!greenlets_in_use()) return {nullptr};
  std::vector<GreenletId> lineage;
  const KeptException kept;
  PyObject* greenlet = PyObject_CallNoArgs(getcurrent);
  for (int depth = 0; greenlet != nullptr && greenlet != Py_None && depth < deepest; ++depth) {
    PyObject* parent = PyObject_GetAttrString(greenlet, "parent");
    if (parent != nullptr && parent != Py_None) lineage.push_back(greenlet);
    Py_DECREF(greenlet);
    greenlet = parent;
  }
  Py_XDECREF(greenlet);
  PyErr_Clear();
  lineage.push_back(nullptr);
  return lineage;
}

void use_hub(PyObject* code) { hub_code = Py_NewRef(code); }

bool hubs_in_use() { return hub_code.load(std::memory_order_relaxed) != nullptr; }

PyFrameObject* hub_frame(PyFrameObject* innermost) {
  if (!hubs_in_use()) return nullptr;
  PyFrameObject* frame = innermost;
  Py_XINCREF(frame);
  for (int depth = 0; frame != nullptr && depth < hub_depth; ++depth) {
    PyCodeObject* code = PyFrame_GetCode(frame);
    Py_DECREF(code);
    if (reinterpret_cast<PyObject*>(code) == hub_code) return frame;
    PyFrameObject* back = PyFrame_GetBack(frame);
    Py_DECREF(frame);
    frame = back;
  }
  Py_XDECREF(frame);
  return nullptr;
}

void destroy_hub() {
  if (!greenlets_in_use()) return;
  PyObject* module = PyImport_ImportModule("pythonx._greenlets");
  if (module != nullptr) Py_XDECREF(PyObject_CallMethod(module, "destroy_hub", nullptr));
  Py_XDECREF(module);
  PyErr_Clear();
}

JobNumber::JobNumber(std::uint64_t number) {
  if (PyContextVar_Get(number_variable, Py_None, &previous_) < 0) PyErr_Clear();
  PyObject* value = PyLong_FromUnsignedLongLong(number);
  token_ = value == nullptr ? nullptr : PyContextVar_Set(number_variable, value);
  Py_XDECREF(value);
  if (token_ == nullptr) PyErr_Clear();
}

// A token counts in the very context only that it was made in; this may be a copy (see ContextLoan).
JobNumber::~JobNumber() {
  const KeptException kept;
  if (token_ != nullptr && PyContextVar_Reset(number_variable, token_) < 0) {
    PyErr_Clear();
    PyObject* token = PyContextVar_Set(number_variable, previous_ == nullptr ? Py_None : previous_);
    if (token == nullptr) PyErr_Clear();
    Py_XDECREF(token);
  }
  Py_XDECREF(token_);
  Py_XDECREF(previous_);
}

std::uint64_t job_number_of(PyThreadState* state) {
  PyObject* context = state == nullptr ? nullptr : state->context;
  if (context == nullptr) return 0;
  PyObject* value = PyObject_GetItem(context, number_variable);
  const std::uint64_t number = number_in(value);
  PyErr_Clear();
  Py_XDECREF(value);
  return number;
}

}  // namespace pythonx
