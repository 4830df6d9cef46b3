// The list of all interpreters but the main one that are open.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace pythonx {

class Subinterpreter;

// Adds a new interpreter; an empty name stands for a new one. nullptr, with the reason in *failure, when there is one of that
// name or the VM is halting.
std::shared_ptr<Subinterpreter> enroll(const std::string& wanted, std::string* failure);

// Takes an interpreter off the list, if it is there.
void strike_off(const Subinterpreter* interpreter);

std::vector<std::shared_ptr<Subinterpreter>> all_subinterpreters();

// Lets no more interpreters be added.
void close_registry();

}  // namespace pythonx
