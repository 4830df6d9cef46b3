#include "threads/safe_point.hpp"

#include <dlfcn.h>
#include <frameobject.h>

#include "python/pacer.hpp"

#if PY_VERSION_HEX >= 0x030E0000
#include <opcode.h>
#endif

namespace pythonx {
namespace {

enum class Place { elsewhere, import_system, module_body };

bool is(PyObject* text, const char* ascii) { return PyUnicode_CompareWithASCIIString(text, ascii) == 0; }

// A module's code runs below a function of the import system that holds no lock by itself, and whose callers
// hold theirs by `with`.
Place place_of(PyCodeObject* code) {
  if (is(code->co_filename, "<frozen importlib._bootstrap>")) {
    return is(code->co_name, "_call_with_frames_removed") ? Place::module_body : Place::import_system;
  }
  return is(code->co_filename, "<frozen importlib._bootstrap_external>") ? Place::import_system
                                                                         : Place::elsewhere;
}

// Whether `with` calls `__enter__` and has not got to its body: from 3.14 on that is a call like any other,
// after which interrupts are looked for. Before, it was one instruction.
bool enters_with([[maybe_unused]] PyFrameObject* frame, [[maybe_unused]] PyCodeObject* code) {
#ifdef LOAD_SPECIAL
  const int last = PyFrame_GetLasti(frame);
  PyObject* bytes = last < 2 ? nullptr : PyCode_GetCode(code);
  if (bytes == nullptr) {
    PyErr_Clear();
    return false;
  }
  const auto* instructions = reinterpret_cast<const unsigned char*>(PyBytes_AS_STRING(bytes));
  const bool enters = instructions[last - 2] == LOAD_SPECIAL && instructions[last] == CALL;
  Py_DECREF(bytes);
  return enters;
#else
  return false;
#endif
}

Safety safety_of_innermost(PyFrameObject* frame, PyCodeObject* code) {
  if (place_of(code) != Place::elsewhere || enters_with(frame, code)) return Safety::unsafe;
  // Those of threading.Condition and its like let a lock go, which they first have to get to.
  return is(code->co_name, "__exit__") ? Safety::risky : Safety::safe;
}

// Takes the reference to the frame. What the import system calls is the code of modules, and finders and loaders, which it is
// near: modules call functions, of which a deep recursion has many, and to look makes objects of their frames.
Safety look(PyFrameObject* frame) {
  constexpr int farthest = 100;
  Safety safety = Safety::safe;
  Place place = Place::elsewhere;
  for (int depth = 0; frame != nullptr && place == Place::elsewhere && depth < farthest; ++depth) {
    PyCodeObject* code = PyFrame_GetCode(frame);
    place = place_of(code);
    if (depth == 0) safety = safety_of_innermost(frame, code);
    PyFrameObject* back = PyFrame_GetBack(frame);
    Py_DECREF(code);
    Py_DECREF(frame);
    frame = back;
  }
  Py_XDECREF(frame);
  return place != Place::elsewhere && safety == Safety::safe ? Safety::loading : safety;
}

}  // namespace

Safety safety_of(PyFrameObject* frame) {
  Py_XINCREF(frame);
  return look(frame);
}

bool is_in_module_body(PyFrameObject* frame) {
  constexpr int farthest = 300;
  Place place = Place::elsewhere;
  Py_XINCREF(frame);
  for (int depth = 0; frame != nullptr && place != Place::module_body && depth < farthest; ++depth) {
    PyCodeObject* code = PyFrame_GetCode(frame);
    place = place_of(code);
    PyFrameObject* back = PyFrame_GetBack(frame);
    Py_DECREF(code);
    Py_DECREF(frame);
    frame = back;
  }
  Py_XDECREF(frame);
  return place == Place::module_body;
}

#ifdef Py_GIL_DISABLED
namespace {

// Exported since 3.14, for CPython's own modules. Without them frames of others cannot be read, and are not.
using ForInterpreter = void (*)(PyInterpreterState*);
const auto stop_world = reinterpret_cast<ForInterpreter>(dlsym(RTLD_DEFAULT, "_PyEval_StopTheWorld"));
const auto start_world = reinterpret_cast<ForInterpreter>(dlsym(RTLD_DEFAULT, "_PyEval_StartTheWorld"));

bool can_stop() { return stop_world != nullptr && start_world != nullptr; }

}  // namespace

StoppedWorld::StoppedWorld() {
  if (can_stop()) stop_world(PyInterpreterState_Get());
}

StoppedWorld::~StoppedWorld() {
  if (can_stop()) start_world(PyInterpreterState_Get());
}
#endif

Safety safety_of(PyThreadState* state) {
#ifdef Py_GIL_DISABLED
  return can_stop() ? look(PyThreadState_GetFrame(state)) : Safety::safe;
#else
  // A collection would run code, and let the thread go on, while 3.11 makes an object of its frame.
  const CollectorPause no_collector(false);
  return look(PyThreadState_GetFrame(state));
#endif
}

}  // namespace pythonx
