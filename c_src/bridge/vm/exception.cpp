#include "vm/exception.hpp"

#include <exception>
#include <new>
#include <stdexcept>

namespace pythonx {
namespace {

Term runtime_error(ErlNifEnv* env, const char* text) {
  const Term keys[] = {atoms.struct_, atoms.exception, atoms.message};
  const Term values[] = {atoms.runtime_error_struct, atoms.true_, make_binary(env, text)};
  Term error;
  make_distinct_map(env, keys, values, 3, &error);
  return error;
}

}  // namespace

Term exception_reason(ErlNifEnv* env) noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return atoms.enomem;
  } catch (const std::length_error&) {
    return atoms.enomem;
  } catch (const std::exception& error) {
    return runtime_error(env, error.what());
  } catch (...) {
    return runtime_error(env, "native code threw something that is no std::exception");
  }
}

Term raise_exception(ErlNifEnv* env) noexcept { return enif_raise_exception(env, exception_reason(env)); }

}  // namespace pythonx
