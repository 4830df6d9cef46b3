// A worker of Pythonx.Pool: Python without a VM around it.
//
// The same library that connects Python with the VM (c_src/bridge) runs here. It knows the VM by erl_nif.h alone, and this program
// has those functions for it: over a heap of its own (heap.hpp, maps.hpp, order.hpp), the external term format (external.hpp), and
// a connection with the VM (connection.hpp), in which a native function is called by a frame (calls.hpp), and what it sends goes the
// other way. So nothing that the library does is written twice.
//
// The launcher (c_src/launcher) starts it, with the connection on descriptors 3 and 4.
#include <cstdlib>
#include <exception>

#include "calls.hpp"
#include "connection.hpp"

int main() {
  using namespace pythonx::worker;
  try {
    open_connection();
    read_frames(handle_frame);
  } catch (const std::exception&) {
    // There is no memory for what came, nor maybe for saying so.
    std::_Exit(1);
  }
}
