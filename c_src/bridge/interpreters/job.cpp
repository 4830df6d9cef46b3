#include "interpreters/job.hpp"

#include <utility>

#include "conversion/error.hpp"
#include "conversion/text.hpp"
#include "interpreters/interpreter.hpp"
#include "interpreters/object.hpp"
#include "threads/safe_point.hpp"
#include "vm/resource.hpp"

namespace pythonx {
namespace {

// How often an interrupt is put off, some milliseconds each: what waits in the import system would otherwise wait for ever. Its
// locks, and a module that is spoilt, are those of this interpreter alone.
constexpr int put_off_limit(Safety safety) { return safety == Safety::loading ? 30 : 1000; }

struct JobResource {
  SubinterpreterJobPtr job;

  // The caller died.
  void down(ErlNifEnv*) {
    const SubinterpreterJobPtr kept = job;
    kept->interpreter().cancel(kept, true);
  }
};

ResourceType<JobResource> job_type;

// The exception that is set, normalised, as new references.
struct Exception {
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;

  Exception() {
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != nullptr && value != nullptr) PyException_SetTraceback(value, traceback);
    for (PyObject** part : {&type, &value, &traceback}) {
      if (*part == nullptr) *part = Py_NewRef(Py_None);
    }
  }
  ~Exception() {
    Py_DECREF(type);
    Py_DECREF(value);
    Py_DECREF(traceback);
  }
  Exception(const Exception&) = delete;
  Exception& operator=(const Exception&) = delete;
};

// A list of the formatted lines, or nullptr. Tried again: a job that was cancelled is interrupted every 50 ms until it has
// ended, and the import of what formats may take as long.
PyObject* format(PyObject* python, const Exception& raised, bool internal) {
  PyObject* lines = nullptr;
  for (int attempt = 0; lines == nullptr && attempt < 8; ++attempt) {
    lines = PyObject_CallMethod(python, "format_error", "OOO", raised.type, raised.value,
                                internal ? Py_None : raised.traceback);
    PyErr_Clear();
  }
  if (lines != nullptr && !PyList_Check(lines)) Py_CLEAR(lines);
  return lines;
}

// For an exception that cannot even be formatted: its class name is always to be had.
Term bare_line(ErlNifEnv* env, const Exception& raised) {
  const bool is_type = PyType_Check(raised.type) != 0;
  const char* name = is_type ? reinterpret_cast<PyTypeObject*>(raised.type)->tp_name : "unknown";
  return make_binary(env, std::string(name) + ": <the exception could not be formatted>\n");
}

Term make_lines(ErlNifEnv* env, PyObject* python, const Exception& raised, bool internal) {
  PyObject* lines = format(python, raised, internal);
  if (lines == nullptr) return enif_make_list1(env, bare_line(env, raised));
  Term list = enif_make_list(env, 0);
  for (Py_ssize_t i = PyList_GET_SIZE(lines); i > 0; --i)
    list = enif_make_list_cell(env, make_text(env, PyList_GET_ITEM(lines, i - 1)), list);
  Py_DECREF(lines);
  return list;
}

}  // namespace

bool SubinterpreterJob::open_type(ErlNifEnv* env) { return job_type.open(env, "pythonx_interpreter_job"); }

SubinterpreterJobPtr SubinterpreterJob::get(ErlNifEnv* env, Term term) {
  const JobResource* resource = job_type.get(env, term);
  return resource == nullptr ? nullptr : resource->job;
}

SubinterpreterJob::SubinterpreterJob(ErlNifEnv* caller_env, Term reference,
                                     std::shared_ptr<Subinterpreter> interpreter, Operation operation,
                                     Term label, Term arguments, Devices devices)
    : interpreter_(std::move(interpreter)),
      operation_(operation),
      env_(enif_alloc_env()),
      reference_(enif_make_copy(env_, reference)),
      arguments_(enif_make_copy(env_, arguments)),
      devices_(std::move(devices)) {
  enif_self(caller_env, &caller_);
  std::string_view text;
  if (get_binary(caller_env, label, &text)) label_ = std::string(first_line(text));
  enif_keep_resource(interpreter_->resource());
}

SubinterpreterJob::~SubinterpreterJob() {
  enif_free_env(env_);
  enif_release_resource(interpreter_->resource());
}

Term SubinterpreterJob::submit(ErlNifEnv* env, Term reference,
                               const std::shared_ptr<Subinterpreter>& interpreter, Operation operation,
                               Term label, Term arguments, Devices devices) {
  auto job = std::make_shared<SubinterpreterJob>(env, reference, interpreter, operation, label, arguments,
                                                 std::move(devices));
  JobResource* resource = job_type.make(job);
  const Term term = enif_make_resource(env, resource);
  // Ours passes to the job. The caller is in here and alive, so it can be watched before the job is submitted.
  job->resource_ = resource;
  job->monitored_ = enif_monitor_process(env, resource, &job->caller_, &job->monitor_) == 0;
  if (interpreter->submit(job)) return term;
  job->cancel(true);
  job->deliver(0, env);
  return make_tuple(env, atoms.error, atoms.closed);
}

bool SubinterpreterJob::cancel(bool mute) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (mute) mute_ = true;
  if (state_ == State::done) return false;
  cancelled_ = true;
  return true;
}

bool SubinterpreterJob::cancelled() {
  std::lock_guard<std::mutex> lock(mutex_);
  return cancelled_ && state_ != State::done;
}

bool SubinterpreterJob::start() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (cancelled_) return false;
  started_at_ = std::chrono::steady_clock::now();
  state_ = State::running;
  return true;
}

Term SubinterpreterJob::run() {
  const Term reply = reply_or_raise(
      [this] {
        PyErr_Clear();
        return env_;
      },
      [this] { return perform(); });
  evaluation_.reset();  // While attached: it may hold a Python reference.
  return reply;
}

Term SubinterpreterJob::perform() {
  evaluation_ = std::make_shared<Evaluation>(caller_, std::move(devices_));
  bool internal = false;
  Term reply = 0;
  {
    const EvaluationScope scope(evaluation_, interpreter_->context());
    const Term* arguments;
    int arity;
    enif_get_tuple(env_, arguments_, &arity, &arguments);
    if (scope.ok()) reply = operation_({*interpreter_, env_, arguments}, &internal);
    if (reply == 0) reply = make_tuple(env_, atoms.python_error, take_error(internal));
    Py_XDECREF(PyObject_CallMethod(interpreter_->python(), "restore_streams", nullptr));
    PyErr_Clear();  // Of an interrupt that comes late.
  }
  const bool relayed = evaluation_->finish(false);
  const Term* parts;
  int arity;
  enif_get_tuple(env_, reply, &arity, &parts);
  return make_tuple(env_, parts[0], parts[1], relayed ? atoms.true_ : atoms.false_);
}

// {lines, type, value, traceback}
Term SubinterpreterJob::take_error(bool internal) {
  const Exception raised;
  const Term lines = make_lines(env_, interpreter_->python(), raised, internal);
  return make_tuple(env_, lines, interpreter_->make_handle(env_, raised.type),
                    interpreter_->make_handle(env_, raised.value),
                    interpreter_->make_handle(env_, raised.traceback));
}

bool SubinterpreterJob::finish() {
  std::lock_guard<std::mutex> lock(mutex_);
  state_ = State::done;
  return exception_sent_;
}

void SubinterpreterJob::deliver(Term reply, ErlNifEnv* caller_env) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    state_ = State::done;
    // Sent under the lock: once `cancel` returned, the caller finds the reply in its mailbox or will never get one.
    if (!mute_) enif_send(caller_env, &caller_, env_, make_tuple(env_, reference_, reply));
  }
  if (monitored_) enif_demonitor_process(caller_env, resource_, &monitor_);
  enif_release_resource(resource_);
}

SubinterpreterJob::Raised SubinterpreterJob::raise_in(PyThreadState* state) {
  [[maybe_unused]] const StoppedWorld stopped;
  std::lock_guard<std::mutex> lock(mutex_);
  if (state_ != State::running) return Raised::too_late;
  const Safety safety = safety_of(state);
  if (safety != Safety::safe && put_off_ < put_off_limit(safety)) {
    ++put_off_;
    return Raised::put_off;
  }
  exception_sent_ = true;
  PyThreadState_SetAsyncExc(state->thread_id, PyExc_KeyboardInterrupt);
  return Raised::yes;
}

}  // namespace pythonx
