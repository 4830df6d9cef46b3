// Native functions as ordinary C++ functions.
//
//   std::optional<std::string> name_of(ErlNifEnv* env, const Job& job, bool whole);
//
//   ErlNifFunc functions[] = {native<name_of>("name_of"), ...};      name_of(job, whole) :: binary | nil
//
// The signature says all: how many arguments the function has in Elixir, what each has to be (an argument that is none raises
// ArgumentError, as badarg, and the function is not called), and what the result is. An ErlNifEnv* that comes first is that of
// the call, and no argument. A function that finds out only later that an argument will not do throws BadArgument. Every other
// exception becomes one of Elixir's (vm/exception.hpp).
//
// A type is read where Parameter<T> says how, and made by `to_term`; nothing means :ok. Term itself stands for any term. To C++
// it is an unsigned integer, from which no other of its size can be told: numbers are signed here.
//
// nif/parameters.hpp has the types of the bridge. This file needs nothing but the VM's, and is tested by a library of its own
// (test/support/typed_functions.cpp).
#pragma once

#include <erl_nif.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "vm/exception.hpp"
#include "vm/term.hpp"

namespace pythonx {

// An argument is of its type, and yet will not do.
class BadArgument : public std::exception {};

// --- What enumerations are in Elixir: atoms ------------------------------------------------------------------------

// For an enumeration E, a specialisation has
//   static constexpr AtomOf<E> atoms_of[] = {{E::value, &atoms.name}, ...};
template <typename E>
struct AtomOf {
  E value;
  const Term* atom;
};

template <typename E>
struct Enumeration;

// --- Arguments -----------------------------------------------------------------------------------------------------

// How a parameter of type T is read: `read`, which is false for a term that is none, then `get`.
template <typename T, typename = void>
struct Parameter;

template <typename T>
struct ReadValue {
  T value{};
  T&& get() { return std::move(value); }
};

template <>
struct Parameter<Term> : ReadValue<Term> {
  bool read(ErlNifEnv*, Term term) {
    value = term;
    return true;
  }
};

template <>
struct Parameter<bool> : ReadValue<bool> {
  bool read(ErlNifEnv*, Term term) {
    value = term == atoms.true_;
    return value || term == atoms.false_;
  }
};

template <typename T>
struct Parameter<T, std::enable_if_t<std::is_integral_v<T> && std::is_signed_v<T>>> : ReadValue<T> {
  bool read(ErlNifEnv* env, Term term) {
    ErlNifSInt64 number;
    if (!enif_get_int64(env, term, &number)) return false;
    this->value = static_cast<T>(number);
    return this->value == number;
  }
};

template <>
struct Parameter<double> : ReadValue<double> {
  bool read(ErlNifEnv* env, Term term) { return enif_get_double(env, term, &value) != 0; }
};

// A term that is a binary.
struct Binary {
  Term term;
};

template <>
struct Parameter<Binary> : ReadValue<Binary> {
  bool read(ErlNifEnv* env, Term term) {
    value.term = term;
    return enif_is_binary(env, term) != 0;
  }
};

// The bytes of a binary, for as long as the call lasts.
template <>
struct Parameter<std::string_view> : ReadValue<std::string_view> {
  bool read(ErlNifEnv* env, Term term) { return get_binary(env, term, &value); }
};

template <>
struct Parameter<std::string> : ReadValue<std::string> {
  bool read(ErlNifEnv* env, Term term) {
    std::string_view text;
    if (!get_binary(env, term, &text)) return false;
    value = text;
    return true;
  }
};

// A process of this node, alive or not.
template <>
struct Parameter<ErlNifPid> : ReadValue<ErlNifPid> {
  bool read(ErlNifEnv* env, Term term) { return enif_get_local_pid(env, term, &value) != 0; }
};

// nil for none.
template <typename T>
struct Parameter<std::optional<T>> : ReadValue<std::optional<T>> {
  bool read(ErlNifEnv* env, Term term) {
    if (term == atoms.nil) return true;
    Parameter<T> parameter;
    if (!parameter.read(env, term)) return false;
    this->value.emplace(parameter.get());
    return true;
  }
};

// A proper list.
template <typename T>
struct Parameter<std::vector<T>> : ReadValue<std::vector<T>> {
  bool read(ErlNifEnv* env, Term list) {
    for (Term head; enif_get_list_cell(env, list, &head, &list);) {
      Parameter<T> parameter;
      if (!parameter.read(env, head)) return false;
      this->value.push_back(parameter.get());
    }
    return enif_is_empty_list(env, list) != 0;
  }
};

template <typename... Ts>
struct Parameter<std::tuple<Ts...>> : ReadValue<std::tuple<Ts...>> {
  bool read(ErlNifEnv* env, Term term) {
    const Term* items;
    int arity;
    return enif_get_tuple(env, term, &arity, &items) && arity == static_cast<int>(sizeof...(Ts)) &&
           read_items(env, items, std::index_sequence_for<Ts...>());
  }

 private:
  template <std::size_t... indices>
  bool read_items(ErlNifEnv* env, const Term* items, std::index_sequence<indices...>) {
    return (read_item(env, items[indices], &std::get<indices>(this->value)) && ...);
  }

  template <typename T>
  static bool read_item(ErlNifEnv* env, Term term, T* out) {
    Parameter<T> parameter;
    if (!parameter.read(env, term)) return false;
    *out = parameter.get();
    return true;
  }
};

template <typename E>
struct Parameter<E, std::enable_if_t<std::is_enum_v<E>>> : ReadValue<E> {
  bool read(ErlNifEnv*, Term term) {
    for (const AtomOf<E>& atom : Enumeration<E>::atoms_of) {
      if (*atom.atom != term) continue;
      this->value = atom.value;
      return true;
    }
    return false;
  }
};

// --- Results -------------------------------------------------------------------------------------------------------

inline Term to_term(ErlNifEnv*, Term term) { return term; }
inline Term to_term(ErlNifEnv*, bool value) { return value ? atoms.true_ : atoms.false_; }
inline Term to_term(ErlNifEnv* env, double value) { return enif_make_double(env, value); }
inline Term to_term(ErlNifEnv* env, std::string_view text) { return make_binary(env, text); }
inline Term to_term(ErlNifEnv* env, const std::string& text) { return make_binary(env, text); }
inline Term to_term(ErlNifEnv* env, const ErlNifPid& pid) { return enif_make_pid(env, &pid); }
// It would be a bool.
Term to_term(ErlNifEnv*, const char*) = delete;

template <typename T>
std::enable_if_t<std::is_integral_v<T> && std::is_signed_v<T>, Term> to_term(ErlNifEnv* env, T value) {
  return enif_make_int64(env, value);
}

template <typename E>
std::enable_if_t<std::is_enum_v<E>, Term> to_term(ErlNifEnv*, E value) {
  for (const AtomOf<E>& atom : Enumeration<E>::atoms_of) {
    if (atom.value == value) return *atom.atom;
  }
  return atoms.nil;
}

// {:ok, value} and {:error, reason}
template <typename T>
struct Ok {
  T value;
};
template <typename T>
Ok(T) -> Ok<T>;

template <typename T>
struct Error {
  T reason;
};
template <typename T>
Error(T) -> Error<T>;

// These make terms of their parts, so each has to know all the others.
template <typename T>
Term to_term(ErlNifEnv* env, Ok<T> result);
template <typename T>
Term to_term(ErlNifEnv* env, Error<T> result);
template <typename T>
Term to_term(ErlNifEnv* env, std::optional<T> value);
template <typename T>
Term to_term(ErlNifEnv* env, std::vector<T> values);
template <typename... Ts>
Term to_term(ErlNifEnv* env, std::tuple<Ts...> values);
template <typename... Ts>
Term to_term(ErlNifEnv* env, std::variant<Ts...> value);

template <typename T>
Term to_term(ErlNifEnv* env, Ok<T> result) {
  return make_tuple(env, atoms.ok, to_term(env, std::move(result.value)));
}

template <typename T>
Term to_term(ErlNifEnv* env, Error<T> result) {
  return make_tuple(env, atoms.error, to_term(env, std::move(result.reason)));
}

// nil for none.
template <typename T>
Term to_term(ErlNifEnv* env, std::optional<T> value) {
  return value ? to_term(env, std::move(*value)) : atoms.nil;
}

template <typename T>
Term to_term(ErlNifEnv* env, std::vector<T> values) {
  std::vector<Term> terms;
  terms.reserve(values.size());
  for (T& value : values) terms.push_back(to_term(env, std::move(value)));
  return enif_make_list_from_array(env, terms.data(), static_cast<unsigned>(terms.size()));
}

template <typename... Ts>
Term to_term(ErlNifEnv* env, std::tuple<Ts...> values) {
  return std::apply([env](Ts&... items) { return make_tuple(env, to_term(env, std::move(items))...); },
                    values);
}

// One of several kinds of result.
template <typename... Ts>
Term to_term(ErlNifEnv* env, std::variant<Ts...> value) {
  return std::visit([env](auto& one) { return to_term(env, std::move(one)); }, value);
}

// --- Functions -----------------------------------------------------------------------------------------------------

template <typename T>
using ParameterOf = Parameter<
    std::conditional_t<std::is_lvalue_reference_v<T> && !std::is_const_v<std::remove_reference_t<T>>, T,
                       std::remove_cv_t<std::remove_reference_t<T>>>>;

// Reads the arguments and calls `function` with them.
template <typename... Ts, std::size_t... indices, typename Function>
Term call_typed(ErlNifEnv* env, [[maybe_unused]] const Term* argv, Function function,
                std::index_sequence<indices...>) {
  [[maybe_unused]] std::tuple<ParameterOf<Ts>...> parameters;
  if (!(std::get<indices>(parameters).read(env, argv[indices]) && ...)) return enif_make_badarg(env);
  if constexpr (std::is_void_v<decltype(function(std::get<indices>(parameters).get()...))>) {
    function(std::get<indices>(parameters).get()...);
    return atoms.ok;
  } else {
    return to_term(env, function(std::get<indices>(parameters).get()...));
  }
}

template <typename Function>
struct Signature;

template <typename Result, typename... Ts>
struct Signature<Result (*)(Ts...)> {
  static constexpr unsigned arity = sizeof...(Ts);

  template <auto function>
  static Term call(ErlNifEnv* env, const Term* argv) {
    return call_typed<Ts...>(env, argv, function, std::index_sequence_for<Ts...>());
  }
};

template <typename Result, typename... Ts>
struct Signature<Result (*)(ErlNifEnv*, Ts...)> {
  static constexpr unsigned arity = sizeof...(Ts);

  template <auto function>
  static Term call(ErlNifEnv* env, const Term* argv) {
    const auto in_env = [env](auto&&... arguments) -> Result {
      return function(env, std::forward<decltype(arguments)>(arguments)...);
    };
    return call_typed<Ts...>(env, argv, in_env, std::index_sequence_for<Ts...>());
  }
};

template <auto function>
Term call_native(ErlNifEnv* env, int, const Term argv[]) noexcept {
  try {
    return Signature<decltype(function)>::template call<function>(env, argv);
  } catch (const BadArgument&) {
    return enif_make_badarg(env);
  } catch (...) {
    return raise_exception(env);
  }
}

// The entry of a function in the table of a library.
template <auto function>
constexpr ErlNifFunc native(const char* name, ErlNifDirtyTaskFlags where = ErlNifDirtyTaskFlags{}) noexcept {
  return {name, Signature<decltype(function)>::arity, call_native<function>, static_cast<unsigned>(where)};
}

}  // namespace pythonx
