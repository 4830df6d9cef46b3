#include "messages.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "atoms.hpp"
#include "connection.hpp"
#include "maps.hpp"

namespace pythonx::worker {
namespace {

std::atomic<std::size_t> short_of_memory{SIZE_MAX};  // from this much on

Term argument_error(Env* env, std::string_view text) {
  static const Term keys[] = {find_atom("__struct__"), find_atom("__exception__"), find_atom("message")};
  static const Term values[] = {find_atom("Elixir.ArgumentError"), find_atom("true")};
  Term* box = new_map(env, 3);
  for (int i = 0; i < 3; ++i) box[1 + 2 * i] = keys[i];
  box[2] = values[0];
  box[4] = values[1];
  box[6] = copy_bytes(env, reinterpret_cast<const unsigned char*>(text.data()), text.size());
  return box_term(box);
}

Term too_large(Env* env) { return argument_error(env, "the result takes more than 4 GiB"); }

Term tuple(Env* env, std::initializer_list<Term> items) {
  Term* box = new_tuple(env, items.size());
  Term* out = box + 1;
  for (const Term item : items) *out++ = item;
  return box_term(box);
}

bool is_reference(Term term) {
  return is_kind(term, Kind::opaque) && extra_of(box_of(term)) == ERL_NIF_TERM_TYPE_REFERENCE;
}

// Once.
void tell_when_short() {
  if (short_of_memory.load(std::memory_order_relaxed) == SIZE_MAX) return;
  if (memory_in_use() < short_of_memory.load(std::memory_order_relaxed)) return;
  if (short_of_memory.exchange(SIZE_MAX) != SIZE_MAX) write_frame(From::spent, 0, empty_list);
}

}  // namespace

void send_message(Term pid, Term message) {
  tell_when_short();
  const Term box[] = {header(Kind::tuple, 2), pid, message};
  try {
    write_frame(From::send, 0, box_term(box));
  } catch (const TooLarge&) {
    if (!is_kind(message, Kind::tuple) || size_of(box_of(message)) != 2 || !is_reference(box_of(message)[1]))
      return;
    Env env;
    const Term raise = tuple(&env, {find_atom("raise"), too_large(&env)});
    write_frame(From::send, 0, tuple(&env, {pid, tuple(&env, {box_of(message)[1], raise})}));
  }
}

void send_result(std::uint32_t call, bool raised, Term term) {
  static const Term ok = find_atom("ok");
  static const Term raise = find_atom("raise");
  static const Term error = find_atom("error");
  const Term result[] = {header(Kind::tuple, 2), ok, term};
  const Term failure[] = {header(Kind::tuple, 3), raise, error, term};
  try {
    write_frame(From::reply, call, box_term(raised ? failure : result));
  } catch (const TooLarge&) {
    Env env;
    write_frame(From::reply, call, tuple(&env, {raise, error, too_large(&env)}));
  }
}

std::size_t memory_in_use() {
  std::FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  // All, resident, shared, text, libraries, data.
  char pages[32] = "";
  const int count = std::fscanf(file, "%*s %*s %*s %*s %*s %31s", pages);
  std::fclose(file);
  return count == 1 ? std::strtoul(pages, nullptr, 10) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) : 0;
}

bool limit_memory(std::size_t bytes) {
  const std::size_t used = memory_in_use();
  rlimit limit{};
  if (used == 0 || getrlimit(RLIMIT_DATA, &limit) != 0) return false;
  limit.rlim_cur = limit.rlim_max = used + bytes;
  if (setrlimit(RLIMIT_DATA, &limit) != 0) return false;
  short_of_memory.store(used + bytes / 2);
  return true;
}

}  // namespace pythonx::worker
