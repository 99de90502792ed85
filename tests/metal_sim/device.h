/* The simulated device as its own parts see it. */
#ifndef SIM_DEVICE_H
#define SIM_DEVICE_H

#include "sim.h"

/* So many bytes of watched memory were read. */
void sim_count_watched(uint64_t bytes);

#endif
