/* What the files of the push-down automaton share. */
#ifndef FE_GRAMMAR_INTERNAL_H
#define FE_GRAMMAR_INTERNAL_H

#include "text/grammar/grammar.h"
#include "text/grammar/grow.h"
#include "text/grammar/plain.h"
#include <pthread.h>
#include <stdatomic.h>

enum {
    FE_NODES_MOST = 4000000,
    FE_STACKS_MOST = 1 << 18, /* interned frames before they are collected, the first time */
    FE_STACKS_LIMIT = 1 << 23,
    FE_DEPTH_MOST = 20000,    /* frames on one stack */
    FE_NESTED_MOST = 400,     /* rules that one opens in another without a byte between */
    FE_STEPS_MOST = 20000000, /* nodes of the vocabulary's tree, and stacks, that one mask or token may look at */
    FE_MERGE_STEPS = 8,       /* that a stack counts for where some are merged */
    FE_PAIRS_MOST = 20000,    /* ways in which a text may be read at once */
    FE_CACHED_MASKS = 128,
};
#define FE_BUILD_LIMIT   ((size_t)64 << 20) /* of expressions until the grammar is finished; then: */
#define FE_RES_LIMIT     ((size_t)256 << 20)
#define FE_LEXMASK_LIMIT ((size_t)64 << 20)
#define FE_SPENT_BYTES   ((size_t)32 << 20) /* that use adds, until a grammar is better made anew */

typedef enum node_kind { N_NEVER, N_EMPTY, N_TERM, N_SEQUENCE, N_CHOICE, N_REPEAT, N_OBJECT, N_ARRAY } node_kind;

typedef struct rule {
    uint8_t kind;
    bool productive, nullable;
    uint32_t a, b; /* TERM: the expression; SEQUENCE, CHOICE: first of b args; REPEAT: the item; OBJECT, ARRAY: index */
    uint32_t lo, hi; /* REPEAT */
} rule;

typedef struct object {
    uint32_t count, words;
    fe_trie keys;       /* quoted; ids are the indices of properties in the spec, `at` its inverse */
    uint32_t *at;       /* [count] where a property stands among the sorted keys: sets are of these */
    fe_node *value;     /* [count] by place */
    uint64_t *required; /* [words] by place, as all sets */
    uint64_t *banned;   /* that have no value */
    uint64_t **needs;   /* [count], each a set or NULL; NULL where there are none */
    fe_extra *extras;
    struct want {
        uint64_t *keys; /* [words], extras behind the properties */
    } * wants;
    uint32_t want_count;
    uint32_t extra_count, least, most;
    bool ordered;
} object;

typedef struct array {
    fe_node *items; /* [count + 1] << contains */
    uint32_t count, least, most, contains;
    uint32_t wanted[FE_CONTAINS_MOST];
    uint32_t
        most_counted[FE_CONTAINS_MOST]; /* items are counted so far: a bound if `bounded`, else where counting ends */
    bool bounded[FE_CONTAINS_MOST];
    uint32_t positions, counts; /* numbers of items, and of what was counted, that are told apart */
    uint8_t *ends;              /* [positions][counts], with contains: can the array be ended from there? */
    bool unique;
    uint64_t
        distinct; /* unique: how many items there are to choose from, FE_PLENTY or more being as good as any number */
} array;
#define FE_PLENTY ((uint64_t)1 << 32)

/* What is to follow. A frame's parent always has a smaller id. */
typedef enum frame_kind {
    F_END,      /* the grammar's end */
    F_UNION,    /* any of b stacks, from index a of the lists */
    F_NODE,     /* the node a */
    F_SEQUENCE, /* the items of the node a from b on */
    F_REPEAT,   /* the node a, of which b items stand there */
    F_FIRST,    /* in the object a behind {, */
    F_KEY,      /* … where a key has to come, */
    F_MEMBER,   /* … behind a member; b: the set of the keys seen, c: the number of members */
    F_KEYS,     /* … inside a key of a property; d: the set of those that may come */
    F_COLON,    /* a colon and the node a */
    F_ITEMS,    /* in the array a behind [; */
    F_ITEM,     /* … where an item has to come; */
    F_BEHIND,   /* … behind an item; b: the number of items, c: what was counted of contains, d: F_SEEN or 0 */
    F_READ,     /* inside an item of the array a that is to be unique: b, d as behind it; c: its text so far, F_CHARs */
    F_SEEN,     /* a: the expression of the items that were read */
    F_CHAR,     /* a: the last byte of a text, whose others are below */
} frame_kind;
#define FE_TEXT_UNKNOWN UINT32_MAX /* in place of F_READ's text, while masks are made */

typedef struct stack {
    uint8_t kind;
    bool expanded;
    uint16_t unused;
    uint32_t depth;
    uint32_t a, b, c, d, parent;
    uint32_t mark;
    uint32_t pairs, pair_count; /* of the closure, once expanded */
    bool end;
} stack;

/* The lexeme's state (or KEY and a node of an object's keys) and what follows it. */
typedef struct pair {
    uint32_t state, stack;
} pair;
#define FE_KEY 0x40000000u

typedef struct pairs {
    pair *list;
    size_t count, capacity;
    bool end; /* the text may end here */
} pairs;

typedef struct place { /* a state of a parse, interned */
    uint32_t first, count;
    bool end;
    uint32_t mask; /* index of its cached mask + 1, or 0 */
} place;

typedef struct level {
    const fe_re *row;
    uint32_t end;
} level;

struct fe_grammar {
    atomic_uint holders; /* who opened or keeps it, and its constraints */
    const fe_tokens *tokens;
    fe_res *res;
    const fe_json_terms *json;
    rule *nodes;
    size_t node_count, node_capacity;
    uint32_t *args;
    size_t arg_count, arg_capacity;
    object *objects;
    size_t object_count, object_capacity;
    array *arrays;
    size_t array_count, array_capacity;
    uint64_t table_size; /* of all arrays' `ends` */
    fe_node root;
    int failed;        /* FERRUM_ENOMEM or FERRUM_ELIMIT */
    size_t made_bytes; /* of what use adds to, when the grammar was finished */

    pthread_mutex_t lock; /* guards all below, and res once the grammar is finished */
    stack *stacks;
    size_t stack_count, stack_capacity, collect_at;
    uint32_t *stack_slots;
    size_t stack_mask;
    uint32_t *lists; /* of unions */
    size_t list_count, list_capacity;
    uint64_t *sets; /* of keys */
    size_t set_count, set_capacity;
    struct set {
        uint32_t first, words;
    } * set_index;
    size_t set_index_count, set_index_capacity;
    uint32_t *set_slots;
    size_t set_mask;
    pair *pool; /* of closures */
    size_t pool_count, pool_capacity;
    place *places;
    size_t place_count, place_capacity;
    pair *place_pairs;
    size_t place_pair_count, place_pair_capacity;
    uint32_t *place_slots;
    size_t place_mask;
    uint32_t epoch, nesting;
    size_t steps;
    pairs now, then; /* of steps */
    uint64_t *scratch;
    uint32_t *doubts; /* tokens of the mask being made that have to be tried by themselves */
    size_t doubt_count, doubt_capacity;
    level *levels;
    fe_absorbing absorbing;
    fe_lexmask **lexmasks; /* of the states that are not the base's */
    size_t lexmask_capacity, lexmask_bytes;
    uint64_t *cached[FE_CACHED_MASKS];
    uint32_t cached_place[FE_CACHED_MASKS];
    uint32_t cached_next;
    fe_constraint *constraints; /* all that use the grammar */
};

struct fe_constraint {
    fe_grammar *grammar;
    fe_constraint *previous, *next;
    uint32_t *history; /* places; the last is where the parse stands */
    size_t count, capacity;
};
enum { FE_ENDED = 0 }; /* the place behind an end token, where nothing may come */

/* stacks.c. These, and those of expand.c, need the lock. Where they fail, g->failed tells. */
uint32_t fe_stack_push(fe_grammar *g, frame_kind kind, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t parent);
/* One stack that stands for all, of which there is one at least: below a top that some share, what lies under it is merged. */
uint32_t fe_stack_merge(fe_grammar *g, const uint32_t *ids, size_t count);
/* Sets of keys, by the places of properties among their object's keys. */
uint32_t fe_set_intern(fe_grammar *g, const uint64_t *bits, uint32_t words);
const uint64_t *fe_set_at(const fe_grammar *g, uint32_t set);
bool fe_keys_any(const fe_grammar *g, uint32_t set, uint32_t from, uint32_t to);
uint32_t fe_place_intern(fe_grammar *g, const pairs *p);
void fe_grammar_collect(fe_grammar *g);

/* expand.c: the parse. */
/* The pairs from which stack k goes on: *first in g->pool, their number; *end: nothing need follow. */
uint32_t fe_stack_closure(fe_grammar *g, uint32_t k, uint32_t *first, bool *end);
/* Behind the key at that place among its object's: what follows. */
uint32_t fe_stack_behind_key(fe_grammar *g, uint32_t keys, uint32_t at);
/* The same place inside an item, whose text may be any. */
uint32_t fe_stack_any_text(fe_grammar *g, uint32_t read);
void fe_pairs_start(fe_grammar *g, pairs *out);
bool fe_pairs_step(fe_grammar *g, const pairs *from, uint8_t byte, pairs *to);

static inline const object *fe_object_of(const fe_grammar *g, fe_node n) { return &g->objects[g->nodes[n].a]; }
static inline const array *fe_array_of(const fe_grammar *g, fe_node n) { return &g->arrays[g->nodes[n].a]; }
/* With what was counted of contains so far, an item of that set: *count becomes what is counted then; false: it may not be. */
bool fe_array_count(const array *a, uint32_t set, uint32_t *count);
static inline uint32_t fe_array_position(const array *a, uint32_t items) {
    return items < a->positions ? items : a->positions - 1;
}
static inline bool fe_array_ends(const array *a, uint32_t items, uint32_t count) {
    return a->ends[(size_t)fe_array_position(a, items) * a->counts + count];
}
/* Is every contains held? */
bool fe_array_enough(const array *a, uint32_t count);
/* What stands at that index, of the set. */
static inline fe_node fe_array_item(const array *a, uint32_t index, uint32_t set) {
    return a->items[(size_t)(index < a->count ? index : a->count) << a->contains | set];
}

/* Bytes of what use adds to, without masks, which have a bound of their own. */
size_t fe_grammar_bytes(const fe_grammar *g);

/* walk.c */
bool fe_place_mask(fe_grammar *g, uint32_t p, uint64_t *mask);

/* Sets of keys. */
static inline void fe_bit_add(uint64_t *set, uint32_t i) { set[i >> 6] |= (uint64_t)1 << (i & 63); }
static inline bool fe_bit_has(const uint64_t *set, uint32_t i) { return set[i >> 6] >> (i & 63) & 1; }

static inline bool fe_grammar_fail(fe_grammar *g, int code) {
    if (!g->failed) g->failed = code;
    return false;
}

#endif
