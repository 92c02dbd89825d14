// Ctrl-C during a call that takes long.
//
// A host language such as Python only notes a signal, and acts on it once it runs again: after the
// call. So a call that may take long listens for SIGINT itself: its handler counts, and then calls
// the handler that it found, whose own notes are thereby made. The solvers look at the count
// between two steps. When the last such call ends, the handler that was found is put back.
#ifndef HUNGARIAN_INTERRUPT_H
#define HUNGARIAN_INTERRUPT_H

#include "kernel.h"

namespace hungarian {

// Listens while it exists, if a call may take this long. Where nobody handles SIGINT (the process
// ends, or ignores it) there is nothing to listen for.
class Listener {
 public:
  explicit Listener(double nanoseconds);
  ~Listener();
  Listener(const Listener &) = delete;
  Listener &operator=(const Listener &) = delete;

  Interrupt interrupt() const { return interrupt_; }

 private:
  Interrupt interrupt_;
  bool listens_ = false;
};

}  // namespace hungarian

#endif
