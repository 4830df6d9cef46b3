// What Python code of an interpreter other than the main one finds of the bridge.
#pragma once

#include <Python.h>

#include <string>

#include "work/output.hpp"

namespace pythonx {

// Puts into sys.modules of the interpreter that the thread is attached to: `_pythonx`, with what its output needs, and an
// empty package `pythonx` over the folder. False with an exception set. The context must outlive the interpreter.
bool add_subinterpreter_modules(EvaluationContext& context, const std::string& folder);

}  // namespace pythonx
