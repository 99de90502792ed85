/* A file of the same model with other block types. What every tensor becomes, and where it will stand, is settled first; then
 * threads take pieces of the tensors by turns, each a run of whole blocks that is read from the mapping, converted and written
 * to its place. Whoever converts a piece, its bytes are the same. */
#include "core/output.h"
#include "core/pool.h"
#include "gguf/gguf.h"
#include "quant/quant.h"
#include "quantize/quantize.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE = 65536 }; /* elements: whole blocks of any type */

typedef struct plan_tensor {
    char name[FE_GGUF_NAME_MAX + 1];
    const ferrum_gguf_tensor *source;
    const fe_type_info *from, *to;
    ferrum_type type;
    uint64_t elements, bytes; /* bytes: of the result */
    uint64_t offset;          /* in the result */
    uint64_t first_piece;
} plan_tensor;

typedef struct job {
    const ferrum_gguf *g;
    const ferrum_mix *mix;
    const ferrum_quantize_options *options;
    plan_tensor *tensors;
    size_t count;
    uint64_t pieces, elements, file_bytes;
    fe_output out;
    fe_pool *pool;
    float *values;         /* PIECE a thread */
    unsigned char *blocks; /* 4 · PIECE a thread */

    atomic_uint_fast64_t next, done; /* pieces handed out, elements written */
    atomic_uint_fast64_t failed;     /* the first piece that failed; those behind it are left alone */
    pthread_mutex_t lock;            /* guards the error */
    int rc;
    ferrum_error error;
} job;

void ferrum_quantize_options_init(ferrum_quantize_options *options) { *options = (ferrum_quantize_options){0}; }

/* ---- Which type ---- */

static uint32_t key_of(const ferrum_gguf *g, const char *architecture, const char *name, uint32_t otherwise) {
    char key[128];
    uint32_t value;
    ferrum_error ignored;
    snprintf(key, sizeof key, "%s.%s", architecture, name);
    const ferrum_gguf_kv *kv = ferrum_gguf_find(g, key);
    /* Where the layers differ the key is an array: the first stands for all. */
    if (kv && kv->type == FERRUM_GGUF_ARRAY && kv->value.array.type != FERRUM_GGUF_STRING && kv->value.array.count) {
        double first = ferrum_gguf_array_number(kv, 0);
        return first >= 0 && first <= UINT32_MAX ? (uint32_t)first : otherwise;
    }
    return ferrum_gguf_get_u32(g, key, &value, &ignored) == 1 ? value : otherwise;
}

/* A file that lacks keys is quantised all the same, by the mix's simplest rules. */
static ferrum_mix_model describe(const ferrum_gguf *g, char architecture[64]) {
    ferrum_str s = {"", 0};
    ferrum_error ignored;
    ferrum_gguf_get_str(g, "general.architecture", &s, &ignored);
    snprintf(architecture, 64, "%.*s", (int)fe_min(s.len, 63), s.data);
    uint32_t heads = key_of(g, architecture, "attention.head_count", 0);
    return (ferrum_mix_model){.architecture = architecture,
                              .layers = key_of(g, architecture, "block_count", 0),
                              .heads = heads,
                              .kv_heads = key_of(g, architecture, "attention.head_count_kv", heads),
                              .experts = key_of(g, architecture, "expert_count", 0),
                              .tied = !ferrum_gguf_find_tensor(g, "output.weight")};
}

static const ferrum_quantize_override *override_of(const ferrum_quantize_options *o, const char *name) {
    for (size_t i = 0; i < o->override_count; i++)
        if (fnmatch(o->overrides[i].pattern, name, 0) == 0) return &o->overrides[i];
    return NULL;
}

static int choose_type(job *j, plan_tensor *t, const ferrum_mix_model *model, ferrum_error *err) {
    const ferrum_gguf_tensor *source = t->source;
    t->type = ferrum_mix_type(j->mix, model, t->name, source->shape, source->type);
    if (!fe_mix_quantizes(t->name, source->shape)) return 0;
    const ferrum_quantize_override *o = override_of(j->options, t->name);
    if (!o) return 0;
    size_t block = ferrum_type_block(o->type);
    if (block == 0)
        return fe_fail(err, FERRUM_EINVAL, "the override %s has the unknown type %d", o->pattern, (int)o->type);
    if (source->shape[0] % block)
        return fe_fail(err, FERRUM_EINVAL,
                       "%s: tensor %s has rows of %" PRIu64 " elements, not a multiple of the %zu of a block of %s",
                       ferrum_gguf_path(j->g), fe_gguf_show(source->name).s, source->shape[0], block,
                       ferrum_type_name(o->type));
    t->type = o->type;
    return 0;
}

/* An override that matches nothing is a slip of the pen. */
static int check_overrides(const job *j, ferrum_error *err) {
    for (size_t i = 0; i < j->options->override_count; i++) {
        const ferrum_quantize_override *o = &j->options->overrides[i];
        bool found = false;
        for (size_t k = 0; k < j->count && !found; k++)
            found = fe_mix_quantizes(j->tensors[k].name, j->tensors[k].source->shape) &&
                    fnmatch(o->pattern, j->tensors[k].name, 0) == 0;
        if (!found)
            return fe_fail(err, FERRUM_EINVAL, "%s: no tensor that is quantised has a name like %s",
                           ferrum_gguf_path(j->g), o->pattern);
    }
    return 0;
}

static int plan(job *j, ferrum_error *err) {
    char architecture[64];
    ferrum_mix_model model = describe(j->g, architecture);
    j->count = (size_t)ferrum_gguf_tensor_count(j->g);
    j->tensors = calloc(fe_max(j->count, 1), sizeof *j->tensors);
    if (!j->tensors) return fe_fail_memory(err, j->count * sizeof *j->tensors, "the list of tensors");
    for (size_t i = 0; i < j->count; i++) {
        plan_tensor *t = &j->tensors[i];
        const ferrum_gguf_tensor *s = t->source = ferrum_gguf_tensor_at(j->g, i);
        memcpy(t->name, s->name.data, s->name.len);
        int rc = choose_type(j, t, &model, err);
        if (rc) return rc;
        t->from = fe_type_info_of((int)s->type);
        t->to = fe_type_info_of((int)t->type);
        t->elements = s->shape[0] * s->shape[1] * s->shape[2] * s->shape[3]; /* the reader has checked the product */
        t->bytes = t->elements / t->to->block * t->to->bytes; /* at most 4 bytes an element: so has a file of it */
        t->first_piece = j->pieces;
        j->pieces += (t->elements + PIECE - 1) / PIECE;
        j->elements += t->elements;
    }
    return check_overrides(j, err);
}

/* Files that are quantised already lose by it once more. */
static void warn_requantized(const job *j) {
    uint64_t quantized = 0;
    const char *type = NULL;
    for (size_t i = 0; i < j->count; i++) {
        const plan_tensor *t = &j->tensors[i];
        if (t->from->block == 1 || t->from == t->to) continue;
        if (quantized++ == 0) type = t->from->name;
    }
    if (!quantized || !j->options->log) return;
    char line[512];
    snprintf(line, sizeof line,
             "%s: %" PRIu64
             " of %zu tensors are quantised already (the first has %s); what they lost then stays lost, and "
             "a file in F16 or BF16 gives better results",
             ferrum_gguf_path(j->g), quantized, j->count, type);
    j->options->log(j->options->log_user, FERRUM_LOG_WARN, line);
}

/* ---- The header ---- */

static bool is_key(ferrum_str key, const char *name) {
    return key.len == strlen(name) && memcmp(key.data, name, key.len) == 0;
}

static void add_keys(const job *j, ferrum_gguf_writer *w) {
    static const char *const dropped[] = {"split.no", "split.count", "split.tensors.count", "general.file_type",
                                          "general.quantization_version"};
    for (uint64_t i = 0; i < ferrum_gguf_kv_count(j->g); i++) {
        const ferrum_gguf_kv *kv = ferrum_gguf_kv_at(j->g, i);
        bool drop = false;
        for (size_t k = 0; k < sizeof dropped / sizeof *dropped; k++) drop |= is_key(kv->key, dropped[k]);
        if (!drop) ferrum_gguf_writer_copy(w, kv);
    }
    ferrum_gguf_writer_u32(w, "general.file_type", j->mix->file_type);
    ferrum_gguf_writer_u32(w, "general.quantization_version", 2); /* of the K types' present layouts */
}

/* Offsets follow one another in the order of the file, as the writer's do. */
static int place(job *j, size_t header_bytes, uint64_t data_bytes, ferrum_error *err) {
    uint32_t alignment = FE_GGUF_ALIGNMENT;
    ferrum_gguf_get_u32(j->g, "general.alignment", &alignment, err);
    uint64_t at = header_bytes;
    for (size_t i = 0; i < j->count; i++) {
        j->tensors[i].offset = at;
        at = header_bytes + (at + j->tensors[i].bytes - header_bytes + alignment - 1) / alignment * alignment;
    }
    if (!fe_add_u64(header_bytes, data_bytes, &j->file_bytes))
        return fe_fail(err, FERRUM_EINVAL, "%s: the result would be longer than 64 bits count", ferrum_gguf_path(j->g));
    return 0;
}

static int make_header(job *j, void **header, size_t *bytes, ferrum_error *err) {
    ferrum_gguf_writer *w;
    uint64_t data_bytes;
    *header = NULL;
    int rc = ferrum_gguf_writer_open(&w, err);
    if (rc) return rc;
    add_keys(j, w);
    for (size_t i = 0; i < j->count; i++) {
        const plan_tensor *t = &j->tensors[i];
        ferrum_gguf_writer_tensor(w, t->name, t->type, t->source->rank, t->source->shape, NULL);
    }
    rc = ferrum_gguf_writer_header(w, header, bytes, &data_bytes, err);
    if (rc == 0) rc = place(j, *bytes, data_bytes, err);
    ferrum_gguf_writer_close(w);
    return rc;
}

/* ---- Converting ---- */

static const plan_tensor *tensor_of(const job *j, uint64_t piece) {
    size_t low = 0, high = j->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (j->tensors[middle].first_piece <= piece)
            low = middle;
        else
            high = middle;
    }
    return &j->tensors[low];
}

static int check_values(const job *j, const plan_tensor *t, const float *x, size_t count, uint64_t first,
                        ferrum_error *err) {
    size_t i = 0;
    while (i < count && fabsf(x[i]) <= t->to->largest) i++;
    if (i == count) return 0;
    const char *path = ferrum_gguf_path(j->g);
    if (!isfinite(x[i]))
        return fe_fail(err, FERRUM_EINVAL, "%s: tensor %s: element %" PRIu64 " is %s", path,
                       fe_gguf_show(t->source->name).s, first + i, isnan(x[i]) ? "not a number" : "infinite");
    return fe_fail(err, FERRUM_EINVAL, "%s: tensor %s: element %" PRIu64 " is %g, and %s takes %g at most", path,
                   fe_gguf_show(t->source->name).s, first + i, (double)x[i], t->to->name, (double)t->to->largest);
}

static int convert(job *j, uint64_t piece, unsigned thread, uint64_t *elements, ferrum_error *err) {
    const plan_tensor *t = tensor_of(j, piece);
    uint64_t first = (piece - t->first_piece) * PIECE;
    size_t count = (size_t)(t->elements - first < PIECE ? t->elements - first : PIECE);
    const char *source = (const char *)t->source->data + first / t->from->block * t->from->bytes;
    float *x = j->values + (size_t)thread * PIECE;
    const void *blocks = source;
    *elements = count;
    t->from->dequantize(x, source, count / t->from->block);
    int rc = check_values(j, t, x, count, first, err);
    if (rc) return rc;
    if (t->from != t->to) {
        unsigned char *made = j->blocks + (size_t)thread * PIECE * sizeof(float);
        t->to->quantize(made, x, count / t->to->block);
        blocks = made;
    }
    return fe_output_write(&j->out, blocks, count / t->to->block * t->to->bytes,
                           t->offset + first / t->to->block * t->to->bytes, err);
}

/* Pieces are handed out in order, so those before a failed one are all looked at: the first failure is always the same. */
static void fail(job *j, uint64_t piece, int rc, const ferrum_error *error) {
    pthread_mutex_lock(&j->lock);
    if (piece < atomic_load(&j->failed)) {
        atomic_store(&j->failed, piece);
        j->rc = rc;
        j->error = *error;
    }
    pthread_mutex_unlock(&j->lock);
}

static bool goes_on(const job *j, uint64_t done) {
    const ferrum_quantize_options *o = j->options;
    return !o->progress || o->progress(o->progress_user, done, j->elements);
}

static void work(void *arg, unsigned thread) {
    job *j = arg;
    for (;;) {
        uint64_t piece = atomic_fetch_add(&j->next, 1), elements;
        ferrum_error error;
        if (piece >= j->pieces || piece > atomic_load(&j->failed)) return;
        int rc = convert(j, piece, thread, &elements, &error);
        if (rc) {
            fail(j, piece, rc, &error);
            return;
        }
        uint64_t done = atomic_fetch_add(&j->done, elements) + elements;
        if (thread != 0 || done == j->elements || goes_on(j, done)) continue;
        fe_error_set(&error, FERRUM_ECANCELED, "%s: quantising was stopped", ferrum_gguf_path(j->g));
        fail(j, 0, FERRUM_ECANCELED, &error);
    }
}

static int open_workers(job *j, ferrum_error *err) {
    unsigned threads = j->options->threads ? j->options->threads : fe_cpu_count();
    if (threads > j->pieces) threads = j->pieces ? (unsigned)j->pieces : 1;
    j->values = fe_alloc(threads, PIECE * sizeof *j->values);
    j->blocks = fe_alloc(threads, PIECE * sizeof(float));
    if (!j->values || !j->blocks) return fe_fail_memory(err, threads * PIECE * sizeof(float) * 2, "pieces of tensors");
    return fe_pool_open(&j->pool, threads, err);
}

static int convert_all(job *j, ferrum_error *err) {
    if (!goes_on(j, 0)) return fe_fail(err, FERRUM_ECANCELED, "%s: quantising was stopped", ferrum_gguf_path(j->g));
    fe_pool_run(j->pool, work, j);
    if (j->rc) return fe_fail(err, j->rc, "%s", j->error.message);
    if (!goes_on(j, j->elements))
        return fe_fail(err, FERRUM_ECANCELED, "%s: quantising was stopped", ferrum_gguf_path(j->g));
    return 0;
}

/* ---- The whole ---- */

static int check_output(const ferrum_gguf *g, const char *out, ferrum_error *err) {
    struct stat to;
    if (fe_gguf_names_part(out))
        return fe_fail(err, FERRUM_EINVAL, "%s: has the name of one part of several, and one whole file is written",
                       out);
    if (stat(out, &to) != 0) return 0;
    for (uint32_t part = 0; part < ferrum_gguf_parts(g); part++) {
        struct stat from;
        char *path = fe_gguf_part_path(g, part, err);
        if (!path) return FERRUM_ENOMEM;
        bool same = stat(path, &from) == 0 && from.st_dev == to.st_dev && from.st_ino == to.st_ino;
        int rc = same ? fe_fail(err, FERRUM_EINVAL, "%s: is what is read, and cannot be written too", path) : 0;
        free(path);
        if (rc) return rc;
    }
    return 0;
}

static void report(const job *j, ferrum_quantize_result *r) {
    *r = (ferrum_quantize_result){.tensors = j->count, .elements = j->elements, .file_bytes = j->file_bytes};
    for (size_t i = 0; i < j->count; i++) {
        const plan_tensor *t = &j->tensors[i];
        r->converted += t->from != t->to;
        r->bytes_before += t->source->bytes;
        r->bytes_after += t->bytes;
    }
}

static int run(job *j, const char *path, ferrum_error *err) {
    void *header = NULL;
    size_t header_bytes = 0;
    int rc = plan(j, err);
    if (rc == 0) warn_requantized(j);
    if (rc == 0) rc = make_header(j, &header, &header_bytes, err);
    if (rc == 0) rc = open_workers(j, err);
    if (rc == 0) rc = fe_output_open(&j->out, path, j->file_bytes, err);
    if (rc == 0) rc = fe_output_write(&j->out, header, header_bytes, 0, err);
    if (rc == 0) rc = convert_all(j, err);
    if (rc == 0) rc = fe_output_commit(&j->out, err);
    ferrum_free(header);
    return rc;
}

int ferrum_quantize_file(const char *in, const char *out, const ferrum_mix *mix, const ferrum_quantize_options *options,
                         ferrum_quantize_result *result, ferrum_error *err) {
    ferrum_quantize_options defaults;
    ferrum_quantize_options_init(&defaults);
    ferrum_gguf *g;
    if (!mix) return fe_fail(err, FERRUM_EINVAL, "%s: the mix to quantise by is not given", in);
    int rc = ferrum_gguf_open(&g, in, err);
    if (rc) return rc;
    job j = {.g = g, .mix = mix, .options = options ? options : &defaults, .out.fd = -1};
    atomic_init(&j.failed, UINT64_MAX);
    pthread_mutex_init(&j.lock, NULL);
    rc = check_output(g, out, err);
    if (rc == 0) rc = run(&j, out, err);
    if (rc == 0 && result) report(&j, result);
    fe_output_close(&j.out);
    fe_pool_close(j.pool);
    pthread_mutex_destroy(&j.lock);
    free(j.values);
    free(j.blocks);
    free(j.tensors);
    ferrum_gguf_close(g);
    return rc;
}
