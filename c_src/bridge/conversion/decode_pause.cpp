// How the decoding walk lets others have the GIL.
#include <algorithm>

#include "conversion/decoder.hpp"
#include "conversion/object.hpp"
#include "python/critical_section.hpp"

namespace pythonx {

// Detached: leaves what the walk holds to be dropped by others, and ends it.
void Decoder::leave() {
  for (Frame& frame : frames_) {
    if (frame.contents != nullptr) {
      const Py_ssize_t parts = frame.kind == Kind::dict ? 2 : 1;
      std::for_each(frame.contents + parts * frame.index, frame.contents + parts * frame.size, drop_later);
      delete[] frame.contents;
    }
    drop_later(frame.object);
  }
  frames_.clear();
  memo_.each(drop_later);
  memo_ = IdentityMap();
  if (keys_) keys_->take(drop_later);
  status_ = DecodeStatus::needs_thread;
}

bool Decoder::pause() {
  pin();
  if (pacer_.pause()) return true;
  if (pacer_.lost()) {
    leave();
    return false;
  }
  if (PyErr_Occurred() != nullptr) return python_error();
  status_ = DecodeStatus::needs_thread;
  return false;
}

// Before other threads run: a dict that changes meanwhile must neither lose its entries nor show some twice.
// Lists are read by index, which is checked again; tuples do not change; of sets a copy is read from the
// start.
void Decoder::pin() {
  for (; pinned_ < frames_.size(); ++pinned_) {
    if (frames_[pinned_].kind == Kind::dict) pin_dict(frames_[pinned_]);
  }
}

void Decoder::pin_dict(Frame& frame) {
  frame.contents = new PyObject*[2 * static_cast<std::size_t>(frame.size)];
  PyObject** next = frame.contents + 2 * frame.index;
  PyObject** const end = frame.contents + 2 * frame.size;
  Py_BEGIN_CRITICAL_SECTION(frame.object);
  for (Py_ssize_t position = frame.position;
       next < end && PyDict_Next(frame.object, &position, next, next + 1); next += 2) {
    Py_INCREF(next[0]);
    Py_INCREF(next[1]);
  }
  Py_END_CRITICAL_SECTION();
  frame.size = (next - frame.contents) / 2;
}

}  // namespace pythonx
