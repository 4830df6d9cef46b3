#include "python/dict_watch.hpp"

#include <array>

namespace pythonx {

#ifdef PYTHONX_WATCHES_DICTS

namespace {

struct WatchedDict {
  PyObject* dict = nullptr;
  DictWatch* watch = nullptr;
};

std::array<WatchedDict, 4> watched_dicts;
std::size_t watched_count = 0;
int dict_watcher = -1;

// Called before the change is made, which nobody else can come between.
int note_dict_change(PyDict_WatchEvent, PyObject* dict, PyObject*, PyObject*) {
  for (std::size_t i = 0; i < watched_count; ++i)
    if (watched_dicts[i].dict == dict) watched_dicts[i].watch->note_change();
  return 0;
}

}  // namespace

void DictWatch::begin(PyObject* dict) {
  if (dict_watcher < 0) dict_watcher = PyDict_AddWatcher(note_dict_change);
  watched_ =
      dict_watcher >= 0 && watched_count < watched_dicts.size() && PyDict_Watch(dict_watcher, dict) == 0;
  if (watched_) {
    watched_dicts[watched_count++] = {dict, this};
  } else {
    PyErr_Clear();
  }
}

#else

void DictWatch::begin(PyObject*) {}

#endif

}  // namespace pythonx
