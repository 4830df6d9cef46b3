#include "python/portions.hpp"

#include <vector>

#include "python/gil.hpp"

namespace pythonx {
namespace {

// Whether the object is of a built-in type whose instances hold no others, and have no finalizers.
bool holds_nothing(PyObject* object) {
  return is_plain_scalar(object) || Py_TYPE(object) == &PyBaseObject_Type || PyComplex_CheckExact(object);
}

#ifndef Py_GIL_DISABLED

constexpr Py_ssize_t portion_size = 10'000;
constexpr Py_ssize_t large = 64;  // elements from which a container is emptied first
constexpr int look_depth = 4;     // how deep in small containers large ones are looked for
constexpr Py_ssize_t few = 16;    // elements that are looked at to see whether a container is harmless

// A container that is being emptied, which dies with the reference held here.
struct Dying {
  PyObject* object;
  Py_ssize_t done;  // of a tuple: how many elements are taken out
};

// Others run between portions, and may have found the object by way of the collector: then it lives on, as it is.
bool is_last(PyObject* object) { return Py_REFCNT(object) == 1; }

// How many elements a container that can be emptied has, -1 for anything else.
Py_ssize_t size_of(PyObject* object) {
  if (PyList_CheckExact(object)) return PyList_GET_SIZE(object);
  if (PyTuple_CheckExact(object)) return PyTuple_GET_SIZE(object);
  if (PyDict_CheckExact(object)) return PyDict_GET_SIZE(object);
  return Py_TYPE(object) == &PySet_Type ? PySet_GET_SIZE(object) : -1;
}

// Whether `holds` is true of an element of a list, tuple or dict; sets are not looked into. A list or tuple that was given up
// while it was made has places without an element.
template <typename Holds>
bool any_element(PyObject* object, Holds holds) {
  if (PyList_CheckExact(object) || PyTuple_CheckExact(object)) {
    PyObject** elements = PySequence_Fast_ITEMS(object);
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(object); ++i)
      if (elements[i] != nullptr && holds(elements[i])) return true;
    return false;
  }
  PyObject *key, *value;
  Py_ssize_t position = 0;
  while (PyDict_CheckExact(object) && PyDict_Next(object, &position, &key, &value))
    if (holds(key) || holds(value)) return true;
  return false;
}

// Whether the object dies with the next reference, and is a container of many elements or has one in it.
bool is_large(PyObject* object, int depth = look_depth) {
  if (!is_last(object)) return false;
  const Py_ssize_t size = size_of(object);
  if (size >= large) return true;
  return size > 0 && depth > 0 &&
         any_element(object, [depth](PyObject* element) { return is_large(element, depth - 1); });
}

bool take_from_list(PyObject* list, std::vector<PyObject*>* portion) {
  const Py_ssize_t size = PyList_GET_SIZE(list);
  const Py_ssize_t first = size > portion_size ? size - portion_size : 0;
  for (Py_ssize_t i = first; i < size; ++i) portion->push_back(Py_XNewRef(PyList_GET_ITEM(list, i)));
  return PyList_SetSlice(list, first, size, nullptr) == 0 && first > 0;
}

// None takes the place of an element: whoever finds the tuple meanwhile finds objects in it.
bool take_from_tuple(Dying* dying, std::vector<PyObject*>* portion) {
  const Py_ssize_t size = PyTuple_GET_SIZE(dying->object);
  for (; dying->done < size && static_cast<Py_ssize_t>(portion->size()) < portion_size; ++dying->done) {
    portion->push_back(PyTuple_GET_ITEM(dying->object, dying->done));
    PyTuple_SET_ITEM(dying->object, dying->done, Py_NewRef(Py_None));
  }
  return dying->done < size;
}

// `popitem` takes the last entry, by the hash that the dict has kept: no code of a key's runs.
bool take_from_dict(PyObject* dict, std::vector<PyObject*>* portion) {
  static PyObject* const popitem = PyUnicode_InternFromString("popitem");
  while (PyDict_GET_SIZE(dict) > 0 && static_cast<Py_ssize_t>(portion->size()) < portion_size) {
    PyObject* entry = PyObject_CallMethodNoArgs(dict, popitem);
    if (entry == nullptr) return false;
    portion->push_back(Py_NewRef(PyTuple_GET_ITEM(entry, 0)));
    portion->push_back(Py_NewRef(PyTuple_GET_ITEM(entry, 1)));
    Py_DECREF(entry);
  }
  return PyDict_GET_SIZE(dict) > 0;
}

bool take_from_set(PyObject* set, std::vector<PyObject*>* portion) {
  while (PySet_GET_SIZE(set) > 0 && static_cast<Py_ssize_t>(portion->size()) < portion_size) {
    PyObject* element = PySet_Pop(set);
    if (element == nullptr) return false;
    portion->push_back(element);
  }
  return PySet_GET_SIZE(set) > 0;
}

// Moves a portion of the elements, with their references, into the empty `portion`; false when that was the last one.
bool take_portion(Dying* dying, std::vector<PyObject*>* portion) {
  PyObject* object = dying->object;
  if (!is_last(object)) return false;
  bool more = false;
  if (PyList_CheckExact(object)) {
    more = take_from_list(object, portion);
  } else if (PyTuple_CheckExact(object)) {
    more = take_from_tuple(dying, portion);
  } else if (PyDict_CheckExact(object)) {
    more = take_from_dict(object, portion);
  } else {
    more = take_from_set(object, portion);
  }
  PyErr_Clear();
  return more;
}

#endif

}  // namespace

#ifdef Py_GIL_DISABLED

// Nobody waits for a GIL, and a count of references says little.
void drop_in_portions(PyObject* object, const std::function<void()>&) { Py_XDECREF(object); }

bool is_harmless_to_drop(PyObject* object) { return holds_nothing(object); }

#else

void drop_in_portions(PyObject* object, const std::function<void()>& after_portion) {
  if (object == nullptr || !is_large(object)) return Py_XDECREF(object);
  std::vector<Dying> dying{{object, 0}};
  std::vector<PyObject*> portion;
  Handoff handoff;
  while (!dying.empty()) {
    Dying current = dying.back();
    portion.clear();
    if (take_portion(&current, &portion)) {
      dying.back().done = current.done;
    } else {
      dying.pop_back();
      Py_DECREF(current.object);
    }
    for (PyObject* element : portion) {
      if (element == nullptr) continue;
      if (is_large(element)) {
        dying.push_back({element, 0});
      } else {
        Py_DECREF(element);
      }
      handoff.tick();
    }
    if (after_portion) after_portion();
  }
}

// An element may be in the container more than once: only with more references than there are places is it held elsewhere.
bool is_harmless_to_drop(PyObject* object) {
  if (!is_last(object) || holds_nothing(object)) return true;
  const Py_ssize_t size = size_of(object);
  return size >= 0 && size <= few && Py_TYPE(object) != &PySet_Type &&
         !any_element(object, [](PyObject* element) {
           return !holds_nothing(element) && Py_REFCNT(element) <= 2 * few;
         });
}

#endif

}  // namespace pythonx
