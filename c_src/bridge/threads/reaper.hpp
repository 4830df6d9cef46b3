// Dropping what Elixir has let go of, where it may run code.
//
// The rule: what runs when a reference is dropped (a finalizer, a weak reference's callback) never stands between somebody
// else's evaluation and its reply. An evaluation drops, at its end, only what is harmless (python/portions.hpp). Everything
// else is dropped by jobs of their own, releases, whose caller is the process Pythonx.Janitor: `running/0` shows them
// with the type of the object in hand, `interrupt/1` with that process ends the finalizer, and one that goes on for a second is
// reported to Pythonx.Watch, as other code that sticks is.
//
// Threads. The reaper is a thread that runs no Python. It waits until something is pending, and then has one release run
// on a thread of the pool, until nothing is pending any more. When that release is stuck, another is begun for the rest: what
// sticks holds up only its own thread. An interrupt ends a release after the object in hand; the rest is the next one's.
//
// Ownership. The reaper and the pool each hold a reference to a release. References that wait are nobody's but the pending list's, so
// that a release takes them one by one: none is lost with one that sticks.
#pragma once

namespace pythonx {

// The reaper's life. Detached.
[[noreturn]] void serve_releases();

}  // namespace pythonx
