// pythonx.PID: an Elixir process as a Python object.
#pragma once

#include <Python.h>
#include <erl_nif.h>

namespace pythonx {

// Makes the type. Called once at boot, attached.
bool init_pid_type();

// The type object (borrowed), for the Python module.
PyTypeObject* pid_type();

PyObject* make_pid(const ErlNifPid& pid);

// False when `object` is no PID; sets no error.
bool get_pid(PyObject* object, ErlNifPid* out);

// The pid as a term; pids of processes of this node are the same in every environment.
ERL_NIF_TERM pid_term(const ErlNifPid& pid);

}  // namespace pythonx
