// Threads that wait for batches: started at the first large one, asleep in between.
#ifndef HUNGARIAN_POOL_H
#define HUNGARIAN_POOL_H

#include <stdint.h>

namespace hungarian {

// Calls work(context) on the calling thread and on at most `helpers` others, and returns when all
// calls have returned. Work shares itself out, so a helper that wakes late finds nothing to do and
// nobody waits for it. A second caller while the threads are busy works alone.
void run_together(int64_t helpers, void (*work)(void *), void *context);

// Whether this process is one of many: forked from one that had loaded the library, or told so.
bool worker();
void be_worker();

}  // namespace hungarian

#endif
