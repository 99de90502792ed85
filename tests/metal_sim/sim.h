/* What the parts of the simulation share; the C++ that translate.py writes includes it too. */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIM_MANY UINT32_MAX

enum {
    SIM_LANES = 32,                /* threads a simdgroup */
    SIM_BUFFERS = 31,              /* entries of Metal's table of buffer arguments */
    SIM_THREADGROUP_BYTES = 32768, /* a threadgroup's memory */
    SIM_SEEN_GROUPS = 2048,        /* numbers of simdgroups, and of threadgroups, in what keeps who read a byte */
    SIM_VALUE = 64,                /* bytes that a lane can give to a simdgroup function */
};

/* ---- Kernels, as translate.py registers them ---- */

typedef enum sim_space { SIM_DEVICE, SIM_CONSTANT } sim_space;

typedef struct sim_parameter {
    const char *name;
    sim_space space;
    uint32_t index;
    bool read_only;
    uint32_t bytes, align; /* of what it points to */
} sim_parameter;

/* What a thread knows of itself and its arguments. */
typedef struct sim_thread {
    void *buffer[SIM_BUFFERS];
    uint32_t thread_position_in_grid[3], thread_position_in_threadgroup[3], threadgroup_position_in_grid[3];
    uint32_t threads_per_threadgroup[3], threadgroups_per_grid[3], threads_per_grid[3];
    uint32_t thread_index_in_threadgroup[1], thread_index_in_simdgroup[1], simdgroup_index_in_threadgroup[1];
    uint32_t threads_per_simdgroup[1], simdgroups_per_threadgroup[1];
} sim_thread;

typedef struct sim_kernel {
    const char *name;
    void (*run)(const sim_thread *t);
    const sim_parameter *parameters;
    size_t parameter_count, shared_bytes;
} sim_kernel;

typedef struct sim_library {
    const char *source;
    size_t source_bytes;
    const sim_kernel *kernels;
    size_t count;
    struct sim_library *next;
} sim_library;

void sim_library_register(sim_library *library); /* before main */
extern sim_library *sim_libraries;

/* ---- What kernels call ---- */

/* From all lanes' values `in`, SIM_VALUE bytes apart, each lane's result. */
typedef void sim_combine(const unsigned char *in, unsigned char *out, uint32_t lanes, uint32_t argument);
/* Gives `in` to the lanes of the simdgroup, takes what `combine` made of all of them. `site`: where in the source. */
void sim_simdgroup(uint32_t site, const void *in, uint32_t in_bytes, void *out, uint32_t out_bytes,
                   sim_combine *combine, uint32_t argument);
void sim_simdgroup_barrier(uint32_t site, bool orders_threadgroup);
void sim_threadgroup_barrier(uint32_t site, bool orders_threadgroup);
uint32_t sim_lane_index(void);
void *sim_shared(void); /* the arrays that the kernel declares */

/* ---- A dispatch ---- */

/* Who touched four bytes of device memory last, in which dispatch. */
typedef struct sim_trace {
    uint32_t dispatch, writer, reader; /* threadgroups + 1; 0: none; SIM_MANY */
} sim_trace;

/* Memory that an argument opens to the kernel. */
typedef struct sim_region {
    uintptr_t begin, end;
    const sim_parameter *parameter;
    bool read_only;
    uint16_t *seen; /* for the byte at `watched`, and so on; NULL: no byte is watched */
    uintptr_t watched, watched_end;
    sim_trace *traces; /* of the bytes from `traced` on; NULL: the dispatch only reads the buffer */
    uintptr_t traced;
} sim_region;

typedef struct sim_dispatch {
    const sim_kernel *kernel;
    void *buffer[SIM_BUFFERS];
    sim_region regions[SIM_BUFFERS];
    size_t region_count;
    uint32_t threads[3], group[3]; /* of the grid, of a threadgroup */
} sim_dispatch;

/* Runs it to the end. false: a fault was reported. */
bool sim_run(const sim_dispatch *d);

/* ---- Faults ---- */

/* Ends the program, or is kept where the test expects faults. */
void sim_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

#ifdef __cplusplus
}
#endif
#endif
