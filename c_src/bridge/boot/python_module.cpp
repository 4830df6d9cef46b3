// `_pythonx`: what the package `pythonx` in priv/python is built on. Registered before Python starts.
#include <pybind11/embed.h>

#include <string>

#include "conversion/atom.hpp"
#include "conversion/function.hpp"
#include "conversion/object.hpp"
#include "conversion/pid.hpp"
#include "memory/dlpack.hpp"
#include "memory/view.hpp"
#include "python/runtime.hpp"
#include "tables/table.hpp"
#include "threads/leavings.hpp"
#include "threads/place.hpp"
#include "threads/pool.hpp"
#include "work/callback.hpp"
#include "work/event_loop.hpp"
#include "work/main_module.hpp"
#include "work/messages.hpp"
#include "work/output.hpp"
#include "work/signal_functions.hpp"
#include "work/source.hpp"
#include "work/streams.hpp"

namespace py = pybind11;

namespace pythonx {
namespace {

ErlNifPid to_pid(const py::object& object) {
  ErlNifPid pid;
  if (get_pid(object.ptr(), &pid)) return pid;
  throw py::attribute_error("expected a pythonx.PID, got: " + std::string(py::repr(py::type::of(object))));
}

// An atom from text that a Python program made up: bounded in length, as the VM has it, and in number.
Term to_tag(const py::object& object) {
  if (!PyUnicode_Check(object.ptr())) {
    throw py::attribute_error("expected the tag to be a str, got: " +
                              std::string(py::repr(py::type::of(object))));
  }
  if (PyUnicode_GetLength(object.ptr()) > 255) throw py::value_error("a tag has at most 255 characters");
  Term atom;
  if (!intern_atom(object.ptr(), &atom)) throw py::error_already_set();
  return atom;
}

void send_tagged_object(const py::object& pid, const py::object& tag, const py::object& object) {
  if (refuse_if_forked("send to Elixir")) throw py::error_already_set();
  ErlNifPid to = to_pid(pid);
  ErlNifEnv* env = enif_alloc_env();
  try {
    const Term message = make_tuple(env, to_tag(tag), make_object(env, object.ptr()));
    enif_send(nullptr, &to, env, message);
  } catch (...) {
    enif_free_env(env);
    throw;
  }
  enif_free_env(env);
}

Py_ssize_t write(int fd, const py::object& text) {
  if (!PyUnicode_Check(text.ptr())) {
    throw py::type_error("write() argument must be str, not " + std::string(Py_TYPE(text.ptr())->tp_name));
  }
  const Stream stream = fd == 2 ? Stream::err : Stream::out;
  Py_ssize_t size;
  const char* utf8 = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (utf8 != nullptr) {
    write_output(stream, {utf8, static_cast<std::size_t>(size)});
  } else {
    PyErr_Clear();
    // Lone surrogates have no UTF-8 form; as escapes nothing of them is lost.
    const auto bytes =
        py::reinterpret_steal<py::bytes>(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "backslashreplace"));
    if (!bytes) throw py::error_already_set();
    write_output(stream, std::string_view(bytes));
  }
  return PyUnicode_GetLength(text.ptr());
}

// The module that is __main__ for the evaluation that the calling thread is tied to, None where there is none. Of a thread
// that is tied to none nobody can say whose module it may see.
py::object current_main() {
  const EvaluationPtr evaluation = main_context().tied();
  if (!evaluation || evaluation->main_module == nullptr) return py::none();
  return py::reinterpret_steal<py::object>(PyObject_CallNoArgs(evaluation->main_module));
}

py::object object_or_none(PyObject* borrowed) {
  return borrowed == nullptr ? py::none() : py::reinterpret_borrow<py::object>(borrowed);
}

py::object current_source() {
  const EvaluationPtr evaluation = main_context().tied();
  return object_or_none(evaluation ? evaluation->source : nullptr);
}

py::object current_operands() {
  const EvaluationPtr evaluation = main_context().tied();
  PyObject* operands = evaluation ? evaluation->operands() : nullptr;
  return operands == nullptr ? py::none() : py::reinterpret_steal<py::object>(operands);
}

// A new reference, or the exception that is set.
py::object taken(PyObject* object) {
  if (object == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

// A memoryview of memory at an address, or of that which another memoryview has, from an offset on.
py::object memory(const py::object& owner, std::uintptr_t address, const py::str& format, Py_ssize_t itemsize,
                  const py::tuple& shape, const py::tuple& strides, bool readonly) {
  const char* start = reinterpret_cast<const char*>(address);
  if (PyMemoryView_Check(owner.ptr())) {
    start = static_cast<const char*>(PyMemoryView_GET_BUFFER(owner.ptr())->buf) + address;
  }
  return taken(
      make_memory_view({owner.ptr(), start, format.ptr(), itemsize, shape.ptr(), strides.ptr(), readonly}));
}

// A finder of sys.meta_path that finds nothing: here an interrupt may strike, as any exception of a finder.
py::object interrupt_point(const py::args&, const py::kwargs&) {
  if (!ThreadPool::instance().take_owed_interrupt()) return py::none();
  PyErr_SetNone(PyExc_KeyboardInterrupt);
  throw py::error_already_set();
}

}  // namespace

// What it shares has locks of its own; see threads/pool.hpp, work/output.hpp and threads/call.hpp.
PYBIND11_EMBEDDED_MODULE(_pythonx, m, py::mod_gil_not_used()) {
  m.doc() = "The native side of the package pythonx.";
  m.attr("PID") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(pid_type()));
  m.attr("Function") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(function_type()));
  m.attr("Atom") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(atom_type()));
  m.attr("Table") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(table_type()));
  m.def(
      "send",
      [](const py::object& pid, const py::object& object) {
        return taken(send_message(pid.ptr(), object.ptr()));
      },
      py::arg("pid"), py::arg("term"), "Send a decoded object to an Elixir process.");
  m.def(
      "start_call",
      [](const py::object& function, const py::tuple& args, const py::object& resolve) {
        const std::uint64_t id = start_function(function.ptr(), args.ptr(), resolve.ptr());
        if (id == 0) throw py::error_already_set();
        return id;
      },
      py::arg("function"), py::arg("args"), py::arg("resolve"),
      "Call an Elixir function, without waiting for it.");
  m.def("cancel_call", &cancel_call, py::arg("number"), "End a call that was started.");
  m.def(
      "start_loop_thread",
      [](const py::object& serve) {
        if (!start_loop_thread(serve.ptr())) throw py::error_already_set();
      },
      py::arg("serve"), "Start the event loop's thread, which calls `serve` for ever.");
  m.def("is_loop_thread", &is_loop_thread, "Whether this thread is the event loop's.");
  m.def(
      "check_not_forked",
      [](const char* what) {
        if (refuse_if_forked(what)) throw py::error_already_set();
      },
      py::arg("what"), "Raise a RuntimeError that this cannot be done, in a forked copy of this process.");
  m.def("blocking_call", &blocking_call, "The number of the call that the event loop waits for, or 0.");
  m.def("self", [] { return taken(self_pid()); }, "The Elixir process that this thread works for.");
  m.def(
      "whereis", [](const py::object& name) { return taken(whereis(name.ptr())); }, py::arg("name"),
      "The Elixir process of that name, or None.");
  m.def("send_tagged_object", &send_tagged_object, py::arg("pid"), py::arg("tag"), py::arg("object"),
        "Send {tag, object} to an Elixir process.");
  m.def("write", &write, py::arg("fd"), py::arg("text"),
        "Write text to the evaluation's stdout (1) or stderr (2).");
  m.def("flush", [](int) { flush_output(); }, py::arg("fd"), "Send what is buffered.");
  m.def(
      "current_evaluation", [] { return py::reinterpret_steal<py::object>(current_evaluation_object()); },
      "The evaluation that this thread belongs to, as an opaque object, or None.");
  m.def(
      "set_evaluation",
      [](const py::object& evaluation) {
        if (!set_evaluation_object(evaluation.ptr())) throw py::error_already_set();
      },
      py::arg("evaluation"), "Make this thread belong to an evaluation.");
  m.def(
      "share_streams",
      [](const py::tuple& fronts, const py::tuple& streams) {
        return taken(share_streams(fronts.ptr(), streams.ptr()));
      },
      py::arg("fronts"), py::arg("streams"),
      "Make these the streams of all evaluations, and what C code finds.");
  m.def("current_main", &current_main, "The module that is __main__ for this thread's evaluation, or None.");
  m.def("current_source", &current_source, "The source of this thread's evaluation, (text, line), or None.");
  m.def("current_operands", &current_operands, "What this thread's operation works on, a tuple, or None.");
  m.def(
      "source_of", [](const py::object& code) { return object_or_none(source_of(code.ptr())); },
      py::arg("code"), "The source of a code object of an evaluation, (text, line), or None.");
  m.def(
      "home_of", [](const py::object& type) { return object_or_none(home_of(type.ptr())); }, py::arg("type"),
      "The module of the evaluation that made a class, or None.");
  m.def("memory", &memory, py::arg("owner"), py::arg("address"), py::arg("format"), py::arg("itemsize"),
        py::arg("shape"), py::arg("strides"), py::arg("readonly"),
        "A memoryview of memory that the owner keeps alive; of an owner that is a memoryview, the address is "
        "an "
        "offset.");
  m.def(
      "read_dlpack", [](const py::object& capsule) { return taken(read_dlpack(capsule.ptr())); },
      py::arg("capsule"), "What a DLPack capsule holds.");
  m.def(
      "on_interrupt", [](int, const py::object& frame) { return taken(on_interrupt(frame.ptr())); },
      "The handler of the interrupt signal: stops what is cancelled, and runs the handlers of other "
      "signals.");
  m.def(
      "write_unraisable",
      [](const py::object& error, const py::object& object) {
        PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
        PyErr_WriteUnraisable(object.ptr());
      },
      py::arg("error"), py::arg("object"), "Report an exception that ends nothing, and where it came from.");
  m.def(
      "make_signal_functions",
      [](const py::dict& natives) { return taken(make_signal_functions(natives.ptr())); }, py::arg("natives"),
      "The functions of the module signal that know of the VM, from those which do not.");
  m.def(
      "use_hub",
      [](const py::object& module) { use_hub(module.attr("Hub").attr("run").attr("__code__").ptr()); },
      py::arg("module"), "There are hubs of gevent from now on.");
  m.def(
      "use_hub",
      [](const py::object& module) { use_hub(module.attr("Hub").attr("run").attr("__code__").ptr()); },
      py::arg("module"), "There are hubs of gevent from now on.");
  m.def(
      "watch_sqlite",
      [](const py::object&) {
        if (!watch_sqlite()) throw py::error_already_set();
      },
      py::arg("module"), "There are connections of sqlite3 from now on.");
  m.def(
      "use_greenlets", [](const py::object& module) { use_greenlets(module.attr("getcurrent").ptr()); },
      py::arg("module"), "There are greenlets from now on.");
  m.def(
      "is_interrupted", [](std::uint64_t number) { return ThreadPool::instance().is_interrupted(number); },
      py::arg("number"), "Whether a job of this thread is to be interrupted.");
  m.def("interrupt_point", &interrupt_point,
        "Raise the interrupt that this thread is owed, if it is. Takes what find_spec() does.");
}

}  // namespace pythonx
