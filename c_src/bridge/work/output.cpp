#include "work/output.hpp"

#include <unistd.h>

#include <atomic>
#include <utility>

#include "conversion/object.hpp"
#include "python/gil.hpp"
#include "threads/pool.hpp"

namespace pythonx {
namespace {

constexpr std::size_t buffer_limit = 16 << 10;
constexpr const char* capsule_name = "pythonx.evaluation";

std::atomic<bool> to_process{false};

void free_capsule(PyObject* capsule) {
  delete static_cast<EvaluationPtr*>(PyCapsule_GetPointer(capsule, capsule_name));
}

PyObject* make_capsule(const EvaluationPtr& evaluation) {
  auto* shared = new EvaluationPtr(evaluation);
  PyObject* capsule = PyCapsule_New(shared, capsule_name, free_capsule);
  if (capsule == nullptr) delete shared;
  return capsule;
}

// Who reads the other end of a pipe may let it fill.
void write_to_process(Stream stream, std::string_view text) {
  const Detach detached;
  const int fd = stream == Stream::out ? STDOUT_FILENO : STDERR_FILENO;
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

// What the token would do in the context that it was made in; this one is a copy of that (see ContextLoan).
void restore_previous(PyObject* variable, PyObject* token) {
  PyErr_Clear();
  PyObject* previous = PyObject_GetAttrString(token, "old_value");
  const bool usable = previous != nullptr && PyCapsule_IsValid(previous, capsule_name) != 0;
  Py_XDECREF(PyContextVar_Set(variable, usable ? previous : Py_None));
  Py_XDECREF(previous);
  PyErr_Clear();
}

}  // namespace

Devices::Devices(ErlNifEnv* env, Term out, Term err, Term relay)
    : has_relay_(enif_get_local_pid(env, relay, &relay_) != 0 ||
                 (is_worker() && enif_whereis_pid(nullptr, atoms.janitor, &relay_) != 0)),
      devices_{make_device(env, out), make_device(env, err)} {}

Devices::Devices(Devices&& other) noexcept
    : env_(std::exchange(other.env_, nullptr)),
      relay_(other.relay_),
      has_relay_(other.has_relay_),
      devices_{other.devices_[0], other.devices_[1]} {}

Devices::~Devices() {
  if (env_ != nullptr) enif_free_env(env_);
}

Devices::Device Devices::make_device(ErlNifEnv* env, Term term) {
  Device device{};
  device.local = enif_get_local_pid(env, term, &device.pid) != 0;
  if (device.local) return device;
  if (env_ == nullptr) env_ = enif_alloc_env();
  device.destination = enif_make_copy(env_, term);
  return device;
}

Term Devices::get(ErlNifEnv* env, Stream stream) const {
  const Device& device = devices_[static_cast<int>(stream)];
  return device.local ? enif_make_pid(env, &device.pid) : enif_make_copy(env, device.destination);
}

bool Devices::send(Stream stream, std::string_view text) {
  if (!has_relay_) return false;
  Device& device = devices_[static_cast<int>(stream)];
  ErlNifEnv* env = enif_alloc_env();
  const Term binary = make_binary(env, text);
  if (device.local) {
    const Term put = make_tuple(env, atoms.put_chars, atoms.unicode, binary);
    const Term request =
        make_tuple(env, atoms.io_request, enif_make_pid(env, &relay_), enif_make_ref(env), put);
    enif_send(nullptr, &device.pid, env, request);
  } else {
    const Term destination = enif_make_copy(env, device.destination);
    enif_send(nullptr, &relay_, env, make_tuple(env, atoms.pythonx_output, destination, binary));
  }
  enif_free_env(env);
  return !device.local;
}

Evaluation::Evaluation(const ErlNifPid& caller, Devices devices)
    : caller_(caller), devices_(std::move(devices)) {}

std::atomic<int> Evaluation::with_streams{0};

Evaluation::~Evaluation() {
  if (has_streams_) --with_streams;
  // The last owner may be a thread that is not attached.
  const bool attached = is_attached();
  for (PyObject* object : {main_module, source, operands_, streams_[0], streams_[1], streams_[2]})
    if (object != nullptr) attached ? Py_DECREF(object) : drop_later(object);
}

void Evaluation::set_operands(PyObject* operands) {
  {
    const std::lock_guard lock(objects_mutex_);
    std::swap(operands_, operands);
  }
  Py_XDECREF(operands);
}

PyObject* Evaluation::operands() {
  const std::lock_guard lock(objects_mutex_);
  Py_XINCREF(operands_);
  return operands_;
}

PyObject* Evaluation::stream(int number) {
  if (!has_streams_.load(std::memory_order_relaxed)) return nullptr;
  const std::lock_guard lock(objects_mutex_);
  Py_XINCREF(streams_[number]);
  return streams_[number];
}

void Evaluation::set_stream(int number, PyObject* stream) {
  {
    const std::lock_guard lock(objects_mutex_);
    std::swap(streams_[number], stream);
    if (stream != streams_[number] && !has_streams_.exchange(true)) ++with_streams;
  }
  Py_XDECREF(stream);
}

void Evaluation::write(Stream stream, std::string_view text) {
  if (text.empty()) return;
  std::lock_guard<std::mutex> lock(mutex_);
  if (stream != buffered_) send_buffer();
  buffered_ = stream;
  buffer_.append(text);
  // A carriage return ends a line too: progress bars draw themselves with it.
  const bool whole_line = text.find_first_of("\n\r") != std::string_view::npos;
  if (whole_line || finished_ || buffer_.size() > buffer_limit) send_buffer();
}

void Evaluation::flush() {
  std::lock_guard<std::mutex> lock(mutex_);
  send_buffer();
}

bool Evaluation::finish(bool abandoned) {
  std::lock_guard<std::mutex> lock(mutex_);
  send_buffer();
  finished_ = true;
  abandoned_ = abandoned;
  return relayed_;
}

bool Evaluation::caller_waits() {
  std::lock_guard<std::mutex> lock(mutex_);
  return !finished_ || abandoned_;
}

// With the mutex held.
void Evaluation::send_buffer() {
  if (buffer_.empty()) return;
  relayed_ = devices_.send(buffered_, buffer_) || relayed_;
  buffer_.clear();
}

// Leaked, like every static of the bridge.
EvaluationContext& main_context() {
  static EvaluationContext* instance = new EvaluationContext;
  return *instance;
}

bool EvaluationContext::init() {
  variable_ = PyContextVar_New("pythonx_evaluation", nullptr);
  return variable_ != nullptr;
}

void EvaluationContext::clear() { Py_CLEAR(variable_); }

PyObject* EvaluationContext::current_object() {
  PyObject* value = nullptr;
  if (variable_ != nullptr && PyContextVar_Get(variable_, Py_None, &value) < 0) PyErr_Clear();
  if (value == nullptr) value = Py_NewRef(Py_None);
  return value;
}

EvaluationPtr EvaluationContext::tied() {
  PyObject* capsule = current_object();
  EvaluationPtr evaluation;
  // Code can find the variable in contextvars.copy_context() and set it to anything.
  if (PyCapsule_IsValid(capsule, capsule_name))
    evaluation = *static_cast<EvaluationPtr*>(PyCapsule_GetPointer(capsule, capsule_name));
  Py_DECREF(capsule);
  return evaluation;
}

// What runs in an empty context, as greenlets do, belongs to the job that the thread is at.
EvaluationPtr EvaluationContext::of_job() {
  Job* job = this == &main_context() ? ThreadPool::instance().current_job() : nullptr;
  return job == nullptr ? nullptr : job->evaluation();
}

EvaluationPtr EvaluationContext::current() {
  if (EvaluationPtr evaluation = tied()) return evaluation;
  if (EvaluationPtr evaluation = of_job()) return evaluation;
  const std::lock_guard lock(mutex_);
  // One that only we hold has ended, with all that it started.
  return latest_.use_count() > 1 ? latest_ : nullptr;
}

EvaluationPtr EvaluationContext::printing() {
  if (EvaluationPtr evaluation = tied()) return evaluation;
  if (EvaluationPtr evaluation = of_job()) return evaluation;
  const std::lock_guard lock(mutex_);
  return latest_;
}

bool EvaluationContext::set_object(PyObject* object) {
  if (object != Py_None && !PyCapsule_IsValid(object, capsule_name)) {
    PyErr_SetString(PyExc_TypeError, "expected what current_evaluation() returned");
    return false;
  }
  if (variable_ == nullptr) return true;
  PyObject* token = PyContextVar_Set(variable_, object);
  Py_XDECREF(token);
  return token != nullptr;
}

PyObject* EvaluationContext::enter(const EvaluationPtr& evaluation) {
  EvaluationPtr previous = evaluation;  // let go of when the lock is
  {
    const std::lock_guard lock(mutex_);
    latest_.swap(previous);
  }
  PyObject* capsule = make_capsule(evaluation);
  if (capsule == nullptr) return nullptr;
  PyObject* token = PyContextVar_Set(variable_, capsule);
  Py_DECREF(capsule);
  return token;
}

void EvaluationContext::leave(PyObject* token) {
  // The evaluation's own exception is set while this runs.
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  if (PyContextVar_Reset(variable_, token) < 0) restore_previous(variable_, token);
  Py_DECREF(token);
  PyErr_Restore(type, value, traceback);
}

bool init_output() { return main_context().init(); }

PyObject* current_evaluation_object() { return main_context().current_object(); }

EvaluationPtr current_evaluation() { return main_context().current(); }

bool set_evaluation_object(PyObject* object) { return main_context().set_object(object); }

void print_to_process() { to_process = true; }

void write_output(Stream stream, std::string_view text, EvaluationContext& context) {
  if (EvaluationPtr evaluation = to_process ? nullptr : context.printing()) {
    evaluation->write(stream, text);
  } else {
    write_to_process(stream, text);
  }
}

void flush_output(EvaluationContext& context) {
  if (EvaluationPtr evaluation = to_process ? nullptr : context.printing()) evaluation->flush();
}

}  // namespace pythonx
