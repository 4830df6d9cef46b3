// The reference that the bench compares with: what a plain C loop over the CPython API takes for each work.
//
// Each loop knows what it is given and checks nothing. It neither shares the GIL, nor survives deep or cyclic
// data, nor reports an error. It runs in the same VM and the same interpreter as the product, so with the
// same allocator.
#include <Python.h>

#include <erl_nif.h>
#include <string.h>
#include <time.h>

static ErlNifResourceType* holder;

// Keeps an object for the benchmark, until `release`.
static ERL_NIF_TERM make_handle(ErlNifEnv* env, PyObject* object) {
  PyObject** memory = enif_alloc_resource(holder, sizeof(PyObject*));
  *memory = object;
  ERL_NIF_TERM term = enif_make_resource(env, memory);
  enif_release_resource(memory);
  return term;
}

static PyObject** get_handle(ErlNifEnv* env, ERL_NIF_TERM term) {
  void* memory;
  return enif_get_resource(env, term, holder, &memory) ? memory : NULL;
}

// ---- Elixir to Python ----

static PyObject* encode_integers(ErlNifEnv* env, ERL_NIF_TERM rest) {
  unsigned size;
  enif_get_list_length(env, rest, &size);
  PyObject* list = PyList_New(size);
  for (unsigned i = 0; i < size; i++) {
    ERL_NIF_TERM head;
    ErlNifSInt64 value;
    enif_get_list_cell(env, rest, &head, &rest);
    enif_get_int64(env, head, &value);
    PyList_SET_ITEM(list, i, PyLong_FromLongLong(value));
  }
  return list;
}

static PyObject* encode_floats(ErlNifEnv* env, ERL_NIF_TERM rest) {
  unsigned size;
  enif_get_list_length(env, rest, &size);
  PyObject* list = PyList_New(size);
  for (unsigned i = 0; i < size; i++) {
    ERL_NIF_TERM head;
    double value;
    enif_get_list_cell(env, rest, &head, &rest);
    enif_get_double(env, head, &value);
    PyList_SET_ITEM(list, i, PyFloat_FromDouble(value));
  }
  return list;
}

static PyObject* encode_bytes(ErlNifEnv* env, ERL_NIF_TERM rest) {
  unsigned size;
  enif_get_list_length(env, rest, &size);
  PyObject* list = PyList_New(size);
  for (unsigned i = 0; i < size; i++) {
    ERL_NIF_TERM head;
    ErlNifBinary binary;
    enif_get_list_cell(env, rest, &head, &rest);
    enif_inspect_binary(env, head, &binary);
    PyList_SET_ITEM(list, i, PyBytes_FromStringAndSize((const char*)binary.data, binary.size));
  }
  return list;
}

static PyObject* encode_text(ErlNifEnv* env, ERL_NIF_TERM rest) {
  unsigned size;
  enif_get_list_length(env, rest, &size);
  PyObject* list = PyList_New(size);
  for (unsigned i = 0; i < size; i++) {
    ERL_NIF_TERM head;
    ErlNifBinary binary;
    enif_get_list_cell(env, rest, &head, &rest);
    enif_inspect_binary(env, head, &binary);
    PyList_SET_ITEM(list, i, PyUnicode_DecodeUTF8((const char*)binary.data, binary.size, NULL));
  }
  return list;
}

// A map from binaries to integers.
static PyObject* encode_map(ErlNifEnv* env, ERL_NIF_TERM map) {
  PyObject* dict = PyDict_New();
  ErlNifMapIterator iterator;
  ERL_NIF_TERM key, value;
  enif_map_iterator_create(env, map, &iterator, ERL_NIF_MAP_ITERATOR_FIRST);
  while (enif_map_iterator_get_pair(env, &iterator, &key, &value)) {
    ErlNifBinary binary;
    ErlNifSInt64 integer;
    enif_inspect_binary(env, key, &binary);
    enif_get_int64(env, value, &integer);
    PyObject* key_object = PyBytes_FromStringAndSize((const char*)binary.data, binary.size);
    PyObject* value_object = PyLong_FromLongLong(integer);
    PyDict_SetItem(dict, key_object, value_object);
    Py_DECREF(key_object);
    Py_DECREF(value_object);
    enif_map_iterator_next(env, &iterator);
  }
  enif_map_iterator_destroy(env, &iterator);
  return dict;
}

static PyObject* encode_any(ErlNifEnv* env, ERL_NIF_TERM term);

static PyObject* encode_any_list(ErlNifEnv* env, ERL_NIF_TERM rest) {
  unsigned size;
  enif_get_list_length(env, rest, &size);
  PyObject* list = PyList_New(size);
  for (unsigned i = 0; i < size; i++) {
    ERL_NIF_TERM head;
    enif_get_list_cell(env, rest, &head, &rest);
    PyList_SET_ITEM(list, i, encode_any(env, head));
  }
  return list;
}

static PyObject* encode_any_map(ErlNifEnv* env, ERL_NIF_TERM map) {
  PyObject* dict = PyDict_New();
  ErlNifMapIterator iterator;
  ERL_NIF_TERM key, value;
  enif_map_iterator_create(env, map, &iterator, ERL_NIF_MAP_ITERATOR_FIRST);
  while (enif_map_iterator_get_pair(env, &iterator, &key, &value)) {
    PyObject* key_object = encode_any(env, key);
    PyObject* value_object = encode_any(env, value);
    PyDict_SetItem(dict, key_object, value_object);
    Py_DECREF(key_object);
    Py_DECREF(value_object);
    enif_map_iterator_next(env, &iterator);
  }
  enif_map_iterator_destroy(env, &iterator);
  return dict;
}

// Rows: lists, maps, binaries, numbers and booleans.
static PyObject* encode_any(ErlNifEnv* env, ERL_NIF_TERM term) {
  switch (enif_term_type(env, term)) {
    case ERL_NIF_TERM_TYPE_INTEGER: {
      ErlNifSInt64 value;
      enif_get_int64(env, term, &value);
      return PyLong_FromLongLong(value);
    }
    case ERL_NIF_TERM_TYPE_FLOAT: {
      double value;
      enif_get_double(env, term, &value);
      return PyFloat_FromDouble(value);
    }
    case ERL_NIF_TERM_TYPE_BITSTRING: {
      ErlNifBinary binary;
      enif_inspect_binary(env, term, &binary);
      return PyBytes_FromStringAndSize((const char*)binary.data, binary.size);
    }
    case ERL_NIF_TERM_TYPE_LIST:
      return encode_any_list(env, term);
    case ERL_NIF_TERM_TYPE_MAP:
      return encode_any_map(env, term);
    default: {
      char name[8];
      enif_get_atom(env, term, name, sizeof(name), ERL_NIF_LATIN1);
      return PyBool_FromLong(name[0] == 't');
    }
  }
}

// As many objects of no use as the integer says.
static PyObject* encode_objects(ErlNifEnv* env, ERL_NIF_TERM term) {
  unsigned size;
  enif_get_uint(env, term, &size);
  PyObject* list = PyList_New(size);
  for (unsigned i = 0; i < size; i++) {
    PyList_SET_ITEM(list, i, PyObject_CallNoArgs((PyObject*)&PyBaseObject_Type));
  }
  return list;
}

// ---- Python to Elixir ----

static ERL_NIF_TERM decode_integers(ErlNifEnv* env, PyObject* list) {
  ERL_NIF_TERM tail = enif_make_list(env, 0);
  for (Py_ssize_t i = PyList_GET_SIZE(list) - 1; i >= 0; i--) {
    tail = enif_make_list_cell(env, enif_make_int64(env, PyLong_AsLongLong(PyList_GET_ITEM(list, i))), tail);
  }
  return tail;
}

static ERL_NIF_TERM decode_floats(ErlNifEnv* env, PyObject* list) {
  ERL_NIF_TERM tail = enif_make_list(env, 0);
  for (Py_ssize_t i = PyList_GET_SIZE(list) - 1; i >= 0; i--) {
    tail = enif_make_list_cell(env, enif_make_double(env, PyFloat_AS_DOUBLE(PyList_GET_ITEM(list, i))), tail);
  }
  return tail;
}

static ERL_NIF_TERM make_binary(ErlNifEnv* env, const char* data, size_t size) {
  ERL_NIF_TERM term;
  memcpy(enif_make_new_binary(env, size, &term), data, size);
  return term;
}

static ERL_NIF_TERM decode_one_bytes(ErlNifEnv* env, PyObject* bytes) {
  return make_binary(env, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

static ERL_NIF_TERM decode_one_text(ErlNifEnv* env, PyObject* text) {
  Py_ssize_t size;
  const char* data = PyUnicode_AsUTF8AndSize(text, &size);
  return make_binary(env, data, size);
}

static ERL_NIF_TERM decode_bytes(ErlNifEnv* env, PyObject* list) {
  ERL_NIF_TERM tail = enif_make_list(env, 0);
  for (Py_ssize_t i = PyList_GET_SIZE(list) - 1; i >= 0; i--) {
    tail = enif_make_list_cell(env, decode_one_bytes(env, PyList_GET_ITEM(list, i)), tail);
  }
  return tail;
}

static ERL_NIF_TERM decode_text(ErlNifEnv* env, PyObject* list) {
  ERL_NIF_TERM tail = enif_make_list(env, 0);
  for (Py_ssize_t i = PyList_GET_SIZE(list) - 1; i >= 0; i--) {
    tail = enif_make_list_cell(env, decode_one_text(env, PyList_GET_ITEM(list, i)), tail);
  }
  return tail;
}

static ERL_NIF_TERM decode_map(ErlNifEnv* env, PyObject* dict) {
  Py_ssize_t size = PyDict_GET_SIZE(dict), position = 0, i = 0;
  ERL_NIF_TERM *keys = enif_alloc(2 * size * sizeof(ERL_NIF_TERM)), *values = keys + size, map;
  PyObject *key, *value;
  for (; PyDict_Next(dict, &position, &key, &value); i++) {
    keys[i] = decode_one_bytes(env, key);
    values[i] = enif_make_int64(env, PyLong_AsLongLong(value));
  }
  enif_make_map_from_arrays(env, keys, values, size, &map);
  enif_free(keys);
  return map;
}

static ERL_NIF_TERM decode_any(ErlNifEnv* env, PyObject* object);

static ERL_NIF_TERM decode_any_list(ErlNifEnv* env, PyObject* list) {
  ERL_NIF_TERM tail = enif_make_list(env, 0);
  for (Py_ssize_t i = PyList_GET_SIZE(list) - 1; i >= 0; i--) {
    tail = enif_make_list_cell(env, decode_any(env, PyList_GET_ITEM(list, i)), tail);
  }
  return tail;
}

static ERL_NIF_TERM decode_any_map(ErlNifEnv* env, PyObject* dict) {
  Py_ssize_t size = PyDict_GET_SIZE(dict), position = 0, i = 0;
  ERL_NIF_TERM keys[size], values[size], map;
  PyObject *key, *value;
  for (; PyDict_Next(dict, &position, &key, &value); i++) {
    keys[i] = decode_any(env, key);
    values[i] = decode_any(env, value);
  }
  enif_make_map_from_arrays(env, keys, values, size, &map);
  return map;
}

static ERL_NIF_TERM decode_any(ErlNifEnv* env, PyObject* object) {
  if (PyLong_CheckExact(object)) return enif_make_int64(env, PyLong_AsLongLong(object));
  if (PyFloat_CheckExact(object)) return enif_make_double(env, PyFloat_AS_DOUBLE(object));
  if (PyUnicode_CheckExact(object)) return decode_one_text(env, object);
  if (PyBytes_CheckExact(object)) return decode_one_bytes(env, object);
  if (PyList_CheckExact(object)) return decode_any_list(env, object);
  if (PyDict_CheckExact(object)) return decode_any_map(env, object);
  return enif_make_atom(env, object == Py_True ? "true" : "false");
}

// ---- The NIFs ----

typedef struct {
  const char* name;
  PyObject* (*encode)(ErlNifEnv*, ERL_NIF_TERM);
  ERL_NIF_TERM (*decode)(ErlNifEnv*, PyObject*);
} Work;

static const Work works[] = {
    {"integers", encode_integers, decode_integers},
    {"floats", encode_floats, decode_floats},
    {"bytes", encode_bytes, decode_bytes},
    {"text", encode_text, decode_text},
    {"map", encode_map, decode_map},
    {"rows", encode_any, decode_any},
    {"objects", encode_objects, decode_any},
};

static const Work* get_work(ErlNifEnv* env, ERL_NIF_TERM term) {
  char name[16];
  if (!enif_get_atom(env, term, name, sizeof(name), ERL_NIF_LATIN1)) return NULL;
  for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
    if (strcmp(works[i].name, name) == 0) return &works[i];
  }
  return NULL;
}

// encode(work, term) -> handle
static ERL_NIF_TERM nif_encode(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  const Work* work = get_work(env, argv[0]);
  if (work == NULL) return enif_make_badarg(env);
  PyGILState_STATE state = PyGILState_Ensure();
  PyObject* object = work->encode(env, argv[1]);
  PyGILState_Release(state);
  return make_handle(env, object);
}

// decode(work, handle) -> term
static ERL_NIF_TERM nif_decode(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  const Work* work = get_work(env, argv[0]);
  PyObject** handle = get_handle(env, argv[1]);
  if (work == NULL || handle == NULL) return enif_make_badarg(env);
  PyGILState_STATE state = PyGILState_Ensure();
  ERL_NIF_TERM term = work->decode(env, *handle);
  PyGILState_Release(state);
  return term;
}

// release(handle) -> :ok
static ERL_NIF_TERM nif_release(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  PyObject** handle = get_handle(env, argv[0]);
  if (handle == NULL) return enif_make_badarg(env);
  PyGILState_STATE state = PyGILState_Ensure();
  Py_CLEAR(*handle);
  PyGILState_Release(state);
  return enif_make_atom(env, "ok");
}

// nothing() -> :ok, for the price of a call of a dirty NIF
static ERL_NIF_TERM nif_nothing(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  (void)argv;
  return enif_make_atom(env, "ok");
}

// ---- How long others hold the GIL ----

static ErlNifTid watcher;
static volatile int watching;
static double waited_us;

static double now_us(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

// Takes the GIL and gives it back, over and over. What that takes longer than usual is time that another had
// it.
static void* watch(void* unused) {
  (void)unused;
  PyThreadState* state = PyThreadState_New(PyInterpreterState_Main());
  while (watching) {
    const double start = now_us();
    PyEval_RestoreThread(state);
    PyEval_SaveThread();
    const double waited = now_us() - start;
    if (waited > 1) waited_us += waited;
  }
  PyEval_RestoreThread(state);
  PyThreadState_Clear(state);
  PyThreadState_DeleteCurrent();
  return NULL;
}

static ERL_NIF_TERM nif_watch_gil(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  (void)argv;
  watching = 1;
  waited_us = 0;
  if (enif_thread_create("gil_watcher", &watcher, watch, NULL, NULL) != 0) return enif_make_badarg(env);
  return enif_make_atom(env, "ok");
}

static ERL_NIF_TERM nif_gil_time(ErlNifEnv* env, int argc, const ERL_NIF_TERM argv[]) {
  (void)argc;
  (void)argv;
  watching = 0;
  enif_thread_join(watcher, NULL);
  return enif_make_double(env, waited_us);
}

static int load(ErlNifEnv* env, void** data, ERL_NIF_TERM info) {
  (void)data;
  (void)info;
  holder = enif_open_resource_type(env, NULL, "reference", NULL, ERL_NIF_RT_CREATE, NULL);
  return holder == NULL;
}

static ErlNifFunc functions[] = {
    {"encode", 2, nif_encode, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"decode", 2, nif_decode, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"release", 1, nif_release, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"nothing", 0, nif_nothing, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"watch_gil", 0, nif_watch_gil, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"gil_time", 0, nif_gil_time, ERL_NIF_DIRTY_JOB_IO_BOUND},
};

ERL_NIF_INIT(Elixir.Pythonx.Bench.Reference, functions, load, NULL, NULL, NULL)
