/* What a backend implements. The public functions of ferrum/kernels.h validate shapes, types and ranges once, here above
 * every backend, and hand each op down as one fe_op: kernels cannot fail. */
#ifndef FE_OPS_H
#define FE_OPS_H

#include "core/core.h"
#include <ferrum/kernels.h>

enum {
    FE_MATMUL_MANY = 3,
    FE_TOP = 64,             /* that FE_OP_TOP finds of a row */
    FE_TOP_COLS = 512 * 1024 /* of so many at most */
};

typedef enum fe_op_kind {
    FE_OP_EMBED,
    FE_OP_RMS_NORM,
    FE_OP_LAYER_NORM,
    FE_OP_MATMUL,
    FE_OP_MATMUL_EXPERTS,
    FE_OP_MOE_ROUTE,
    FE_OP_MOE_SUM,
    FE_OP_ROPE,
    FE_OP_KV_APPEND,
    FE_OP_ATTENTION,
    FE_OP_SWIGLU,
    FE_OP_GEGLU,
    FE_OP_GELU,
    FE_OP_ADD,
    FE_OP_SCALE,
    FE_OP_ARGMAX,
    FE_OP_TOP,
    FE_OP_UNPACK,
    FE_OP_KINDS,
} fe_op_kind;

/* An op as it was asked for. `ints` is a host array of out.rows entries (EMBED: ids, ROPE: positions), `spans` one of
 * span_count (KV_APPEND, ATTENTION): the stream's, or the caller's where the op runs at once. */
typedef struct fe_op {
    fe_op_kind kind;
    ferrum_tensor out;     /* for ROPE also the input */
    ferrum_tensor out2;    /* MOE_ROUTE: the weights */
    ferrum_tensor a, b, c; /* inputs in the order of the public function */
    const int32_t *ints;
    const ferrum_kv_span *spans;
    size_t span_count;
    union {
        float scale, eps; /* EMBED; RMS_NORM, LAYER_NORM */
        struct {
            float by, softcap;
        } scaled; /* SCALE */
        struct {
            ferrum_gating gating;
            bool renormalise;
        } route;
        struct {
            size_t count;
            ferrum_precision precision;
            ferrum_tensor c[FE_MATMUL_MANY], w[FE_MATMUL_MANY];
        } matmul; /* a is op.a */
        struct {
            ferrum_rope_params params;
            ferrum_tensor factors;
            bool has_factors;
        } rope;
        ferrum_attention_params attention;
    } u;
} fe_op;

typedef struct fe_backend {
    const char *name;
    bool numbered;       /* "NAME:2" is the third of its devices */
    bool own_memory;     /* memory of the ops alone has no place on the host: buffers without `data` may be asked for */
    uint32_t pass_rows;  /* tokens of a prompt that a pass should take; 0: no matter */
    ferrum_type kv_type; /* that sessions should give their KV caches */
    bool kv_q8_0;        /* they may be Q8_0 too, besides F16 and F32 */
    bool
        keeps_logits; /* logits stay with it until they are asked for: it has FE_OP_TOP, which others need not, and even_rows 0, as all
                          * the logits of guessed tokens are wanted */
    uint32_t even_rows; /* ops of up to so many rows give each the bits that it has by itself; 0: not known of any */
    int (*open)(ferrum_device *dev, const ferrum_device_options *options, ferrum_error *err);
    void (*close)(ferrum_device *dev);
    /* Make what buf->data points to, all but `state` being set, memory of the device's, and take it back. NULL: the device
     * reads the host's memory as it is. */
    int (*buffer_open)(ferrum_buffer *buf, ferrum_error *err);
    void (*buffer_close)(ferrum_buffer *buf);
    int (*stream_open)(ferrum_stream *s, ferrum_error *err);
    void (*stream_close)(ferrum_stream *s);
    void (*submit)(ferrum_stream *s, const fe_op *op); /* copies ints and spans if it does not run at once */
    int (*wait)(ferrum_stream *s, ferrum_error *err);
    uint64_t (*memory_left)(const ferrum_device *dev); /* of its own; NULL: its memory is the host's */
    int (*measure)(ferrum_device *dev, ferrum_device_limits *out, ferrum_error *err); /* NULL: it has no limits */
} fe_backend;

struct ferrum_device {
    const fe_backend *backend;
    unsigned index; /* of several */
    char about[96];
    void *state; /* the backend's */
};

struct ferrum_buffer {
    ferrum_device *device;
    unsigned char *data; /* NULL: the host has no view of it */
    size_t bytes;
    bool writable;
    size_t unmap; /* bytes to unmap with the buffer; 0: the memory is another's */
    void *state;  /* the backend's */
};

struct ferrum_stream {
    ferrum_device *device;
    ferrum_error error; /* the first bad op's */
    bool failed;
    void *state; /* the backend's */
};

extern const fe_backend fe_backend_ref;
extern const fe_backend fe_backend_cpu;
extern const fe_backend fe_backend_metal; /* where FERRUM_METAL is defined */
extern const fe_backend fe_backend_cuda;  /* where FERRUM_CUDA is defined */

/* The caches that a session on this device should have. */
ferrum_type fe_device_kv_type(const ferrum_device *dev);
/* As many tokens as `usual` or, where the device wants more of them at once, so many. */
uint32_t fe_device_pass_rows(const ferrum_device *dev, uint32_t usual);
bool fe_device_has_kv(const ferrum_device *dev, ferrum_type type);
uint32_t fe_device_even_rows(const ferrum_device *dev);
bool fe_device_keeps_logits(const ferrum_device *dev);

/* out[m, 2 · FE_TOP], x[m, n]: of each row the FE_TOP largest, the largest first and of equal ones the one that comes first, and then
 * where in the row they stand. What is NaN or minus infinity is none of them: -1 in place of one that there is not. Infinity becomes
 * FLT_MAX. n <= FE_TOP_COLS. */
void fe_top(ferrum_stream *s, const ferrum_tensor *out, const ferrum_tensor *x);

/* Pages of a span that has them. */
static inline size_t fe_kv_pages(const ferrum_kv_span *span) {
    return ((size_t)span->first + span->rows + FERRUM_KV_PAGE - 1) / FERRUM_KV_PAGE;
}

/* What RoPE multiplies the pairs at a position by, besides turning them. */
double fe_rope_magnitude(const ferrum_rope_params *p, int32_t position);

/* The cosines and sines of rows, times the magnitude: [count][dims], for each position dims/2 cosines, then as many sines. The backend brings the
 * memory of `positions`, [count], and `data`, and may share them between ops that turn by the same. */
typedef struct fe_angles {
    ferrum_rope_params params;
    const float *factors; /* NULL: none */
    int32_t *positions;
    float *data;
    size_t count;
} fe_angles;

/* Are they those of these positions? */
bool fe_angles_are(const fe_angles *a, const ferrum_rope_params *p, const float *factors, const int32_t *positions,
                   size_t count);
void fe_angles_fill(fe_angles *a, const ferrum_rope_params *p, const float *factors, const int32_t *positions,
                    size_t count);

/* Angles of single positions, kept from pass to pass: sequences go through the same ones. */
typedef struct fe_angle_rows {
    ferrum_rope_params params;
    float *factors; /* [dims/2], a copy; or NULL */
    double *rates;  /* [dims/2] */
    float *data;    /* [FE_ANGLE_ROWS][dims] */
    bool *known;    /* [FE_ANGLE_ROWS]: is it there yet? */
} fe_angle_rows;
enum { FE_ANGLE_ROWS = 32768 }; /* positions behind are worked out each time */

/* False where there is no memory. */
bool fe_angle_rows_open(fe_angle_rows *r, const ferrum_rope_params *p, const float *factors);
void fe_angle_rows_close(fe_angle_rows *r);
bool fe_angle_rows_are(const fe_angle_rows *r, const ferrum_rope_params *p, const float *factors);
/* As fe_angles_fill, to the bit. */
void fe_angles_take(fe_angles *a, fe_angle_rows *r, const float *factors, const int32_t *positions, size_t count);

/* Do two tensors of one slice have bytes in common? */
static inline bool fe_overlap(const ferrum_tensor *a, const ferrum_tensor *b) {
    size_t a_end = a->offset + (a->rows - 1) * a->row_stride + ferrum_row_bytes(a->type, a->cols);
    size_t b_end = b->offset + (b->rows - 1) * b->row_stride + ferrum_row_bytes(b->type, b->cols);
    return a->buffer == b->buffer && a->offset < b_end && b->offset < a_end;
}

/* The row of the caches where a span's position stands. */
static inline size_t fe_kv_row(const ferrum_kv_span *span, size_t position) {
    return span->pages ? span->pages[position / FERRUM_KV_PAGE] * (size_t)FERRUM_KV_PAGE + position % FERRUM_KV_PAGE
                       : position;
}

/* Host address of element (slice, row, 0), for backends on the host. */
static inline void *fe_at(const ferrum_tensor *t, size_t slice, size_t row) {
    return t->buffer->data + t->offset + slice * t->slice_stride + row * t->row_stride;
}
static inline float *fe_row(const ferrum_tensor *t, size_t row) { return fe_at(t, 0, row); }

#endif
