#include "work/code_cache.hpp"

#include <iterator>
#include <list>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "python/package.hpp"
#include "work/source.hpp"

namespace pythonx {
namespace {

constexpr std::size_t entry_limit = 1024;
constexpr std::size_t byte_limit = 32 << 20;

struct Entry {
  std::string key;
  Code code;
};

// Most recently used first. The mutex is a leaf: under it neither Python is called nor a reference dropped.
struct Cache {
  std::mutex mutex;
  std::list<Entry> entries;
  std::unordered_map<std::string_view, std::list<Entry>::iterator> index;
  std::size_t bytes = 0;
};

// Leaked, as every static with a destructor must be.
Cache& cache() {
  static Cache* instance = new Cache;
  return *instance;
}

Code share(const Code& code) {
  Py_XINCREF(code.body);
  Py_XINCREF(code.expression);
  return code;
}

void drop(const Code& code) {
  Py_XDECREF(code.body);
  Py_XDECREF(code.expression);
}

bool find(const std::string& key, Code* out) {
  std::lock_guard<std::mutex> lock(cache().mutex);
  const auto found = cache().index.find(key);
  if (found == cache().index.end()) return false;
  cache().entries.splice(cache().entries.begin(), cache().entries, found->second);
  *out = share(found->second->code);
  return true;
}

std::list<Entry>::iterator take_out(std::list<Entry>::iterator entry, std::vector<Code>* evicted) {
  Cache& c = cache();
  evicted->push_back(entry->code);
  c.bytes -= entry->key.size();
  c.index.erase(entry->key);
  return c.entries.erase(entry);
}

void evict(std::vector<Code>* evicted) {
  Cache& c = cache();
  while (c.entries.size() > entry_limit || (c.bytes > byte_limit && c.entries.size() > 1)) {
    take_out(std::prev(c.entries.end()), evicted);
  }
}

// Of the codes for one place of a file the latest stays: tracebacks show its lines there. An earlier one that
// comes back must be compiled again to show its own.
void evict_place(std::string_view place, std::vector<Code>* evicted) {
  for (auto it = cache().entries.begin(); it != cache().entries.end();) {
    const bool same = it->key.compare(0, place.size(), place) == 0;
    it = same ? take_out(it, evicted) : std::next(it);
  }
}

void insert(const Source& source, const Code& code) {
  const std::string& key = source.key();
  std::vector<Code> evicted;
  {
    std::lock_guard<std::mutex> lock(cache().mutex);
    if (cache().index.count(key) != 0) return;
    if (source.file() != "<string>") evict_place(source.place(), &evicted);
    cache().bytes += key.size();
    cache().entries.push_front({key, share(code)});
    cache().index.emplace(cache().entries.front().key, cache().entries.begin());
    evict(&evicted);
  }
  for (const Code& code_out : evicted) drop(code_out);
}

PyObject* to_reference(PyObject* object) { return object == Py_None ? nullptr : Py_NewRef(object); }

// An impossible line makes code `<string>`, see _compile.py, which begins at its first.
long first_line_of(const Code& code, long line) {
  PyObject* any = code.body != nullptr ? code.body : code.expression;
  PyObject* file = any == nullptr ? nullptr : reinterpret_cast<PyCodeObject*>(any)->co_filename;
  const bool unnamed = file == nullptr || PyUnicode_CompareWithASCIIString(file, "<string>") == 0;
  return unnamed ? 1 : line;
}

// Code without its source is as good but for who wants to read it.
void tie(const Code& code, PyObject* text, long line) {
  PyObject* source = Py_BuildValue("(Ol)", text, first_line_of(code, line));
  if (source != nullptr && code.body != nullptr) tie_source(code.body, source);
  if (source != nullptr && code.expression != nullptr) tie_source(code.expression, source);
  Py_XDECREF(source);
  PyErr_Clear();
}

// The splitting of statements and expression is Python's own ast work: priv/python/pythonx/_compile.py.
bool compile(const Source& source, Code* out) {
  PyObject* text =
      PyUnicode_DecodeUTF8(source.text().data(), static_cast<Py_ssize_t>(source.text().size()), nullptr);
  PyObject* module = text == nullptr ? nullptr : package_module("pythonx._compile");
  PyObject* pair = module == nullptr
                       ? nullptr
                       : PyObject_CallMethod(module, "compile_evaluation", "Os#l", text, source.file().data(),
                                             static_cast<Py_ssize_t>(source.file().size()), source.line());
  const bool ok = pair != nullptr && PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2;
  if (ok) {
    out->body = to_reference(PyTuple_GET_ITEM(pair, 0));
    out->expression = to_reference(PyTuple_GET_ITEM(pair, 1));
    tie(*out, text, source.line());
  }
  Py_XDECREF(pair);
  Py_XDECREF(module);
  Py_XDECREF(text);
  return ok;
}

}  // namespace

Source::Source(std::string_view text, std::string_view file, long line)
    : file_size_(file.size()), line_(line) {
  key_.reserve(file.size() + text.size() + 24);
  key_.append(file).push_back('\0');
  key_.append(std::to_string(line)).push_back('\0');
  text_offset_ = key_.size();
  key_.append(text);
}

PyObject* Code::source() const {
  PyObject* any = body != nullptr ? body : expression;
  PyObject* source = any == nullptr ? nullptr : source_of(any);
  Py_XINCREF(source);
  return source;
}

bool compile_cached(const Source& source, Code* out) {
  if (find(source.key(), out)) return true;
  if (!compile(source, out)) return false;
  insert(source, *out);
  return true;
}

}  // namespace pythonx
