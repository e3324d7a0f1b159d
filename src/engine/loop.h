/* loop: what the files of the engine's thread share: loop.c, retention.c. */
#ifndef CENTO_ENGINE_LOOP_H
#define CENTO_ENGINE_LOOP_H

#include "generation.h"

/* Takes the accounts of a generation's own sequence, and the sequence from the scheduler; the answer's KV is
 * kept if there is an answer, as part of `chunk` (may be NULL). Does nothing the second time. */
void loop_remove_sequence(cento_generation *generation, context_chunk *chunk);

#endif
