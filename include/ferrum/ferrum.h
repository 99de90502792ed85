/* ferrum/ferrum.h: running a language model from a GGUF file.
 *
 *     ferrum_model_open(&model, "qwen3-8b.gguf", NULL, &err);       // mapped; shared by any number of sessions and threads
 *     ferrum_tokenize(ferrum_model_tokenizer(model), text, strlen(text), FERRUM_ADD_SPECIAL, &ids, &n, &err);
 *     ferrum_session_open(&chat, model, NULL, &err);                // one timeline: its KV cache, its sampler
 *     ferrum_session_append(chat, ids, n, &err);                    // prefill
 *     while ((got = ferrum_session_next(chat, piece, sizeof piece, &err)) > 0) fwrite(piece, 1, (size_t)got, stdout);
 *
 * Threads: a model is immutable once open and may be used from any thread; a session belongs to one thread at a time
 * (ferrum_session_cancel excepted). Structs that options come in are set up by their _init function, then altered.
 */
#ifndef FERRUM_FERRUM_H
#define FERRUM_FERRUM_H

#include <ferrum/common.h>
#include <ferrum/gguf.h>
#include <ferrum/kernels.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Models ------------------------------------------------------------------------------------------------------ */

typedef struct ferrum_model ferrum_model;

typedef struct ferrum_model_options {
    const char *device;        /* "cpu" (also NULL), "metal" or "ref" */
    ferrum_device_options cpu; /* threads and cap of the CPU device */
    const char *pre;           /* as in ferrum_tokenizer_open; must outlive the model; NULL: as the file says */
    ferrum_log_fn log;         /* warnings and notes while opening; NULL: none */
    void *log_user;
} ferrum_model_options;

FERRUM_API void ferrum_model_options_init(ferrum_model_options *options);

/* Maps the file, checks its metadata and that every tensor that the architecture needs is there with the shape it must
 * have, and reads its tokenizer. options NULL: the defaults.
 * Errors: those of ferrum_gguf_open; FERRUM_EUNSUPPORTED names an unknown architecture and the known ones;
 * FERRUM_EFORMAT names the key or the tensor that is missing or wrong. */
FERRUM_API int ferrum_model_open(ferrum_model **out, const char *path, const ferrum_model_options *options,
                                 ferrum_error *err);
/* The same over a file's bytes in memory, which must outlive the model; `name` is what messages call it. */
FERRUM_API int ferrum_model_open_memory(ferrum_model **out, const void *data, size_t bytes, const char *name,
                                        const ferrum_model_options *options, ferrum_error *err);
FERRUM_API void ferrum_model_close(ferrum_model *model); /* after its sessions */

/* How what a model gives for a text's tokens becomes one vector; GGUF's numbers (ARCHITECTURE.pooling_type). */
typedef enum ferrum_pooling {
    FERRUM_POOLING_NONE, /* the file does not say, or says none */
    FERRUM_POOLING_MEAN,
    FERRUM_POOLING_CLS,  /* the first token's */
    FERRUM_POOLING_LAST, /* the last one's */
    FERRUM_POOLING_RANK, /* a score of two texts, which is no embedding: not supported */
} ferrum_pooling;
FERRUM_API const char *ferrum_pooling_name(ferrum_pooling p); /* "none", "mean", … */

typedef struct ferrum_model_info {
    const char *name;         /* general.name, or the file's name */
    const char *architecture; /* "llama" */
    const char *device;       /* "cpu: avx512, 2 threads" */
    uint64_t parameters, weight_bytes;
    uint64_t token_bytes; /* of weights, read for each token when they come one by one */
    uint64_t
        prompt_parameters; /* that each token of a prompt is multiplied by: neither the embedding nor the output, of which
                                   only the last token has need, and of the experts those that are used */
    uint32_t context_length; /* that the model was trained for */
    uint32_t vocab_size, embedding_length, block_count, head_count, head_count_kv, head_dim, expert_count;
    ferrum_str chat_template; /* the file's own text, tokenizer.chat_template; data NULL: it has none */
    bool has_tokenizer;       /* false: runs on ids alone (tokenizer.ggml.model is no_vocab or absent) */
    ferrum_pooling pooling;   /* that the file names */
    bool generates;           /* false: gives embeddings alone, and no session opens */
} ferrum_model_info;
FERRUM_API void ferrum_model_get_info(const ferrum_model *model, ferrum_model_info *info);
FERRUM_API const ferrum_gguf *ferrum_model_gguf(const ferrum_model *model);
FERRUM_API ferrum_device *ferrum_model_device(const ferrum_model *model); /* the model's: do not close it */

/* What a session's KV cache holds. */
typedef enum ferrum_kv {
    FERRUM_KV_DEFAULT, /* F16; on the device "ref", F32 */
    FERRUM_KV_F16,
    FERRUM_KV_Q8_0, /* about half the memory; keys and values are rounded to 8 bits in groups of 32 */
} ferrum_kv;

/* What a session at this context length, with such a KV cache, takes, in bytes. */
typedef struct ferrum_memory {
    uint64_t mapped;  /* the file: shared, and given back by the system under pressure */
    uint64_t kv;      /* KV cache */
    uint64_t scratch; /* activations and logits */
} ferrum_memory;
FERRUM_API void ferrum_model_memory(const ferrum_model *model, uint32_t context, ferrum_kv kv, ferrum_memory *out);

/* ---- Tokens ------------------------------------------------------------------------------------------------------
 *
 *     ferrum_tokenizer_open(&t, "qwen3-8b.gguf", NULL, &err);   // alone; or t = ferrum_model_tokenizer(model)
 *     ferrum_tokenize(t, text, strlen(text), FERRUM_ADD_SPECIAL, &ids, &count, &err);
 *
 * A tokenizer is immutable once open and may be used from any thread. */

typedef struct ferrum_tokenizer ferrum_tokenizer;

/* Opens the tokenizer of a file, which needs nothing else: no tensors, no architecture that is known. pre: cut text into words
 * as the tokenizer.ggml.pre of that name does, whatever the file says; NULL: as the file says.
 * Errors: those of ferrum_gguf_open; FERRUM_EUNSUPPORTED: the file has no tokenizer, or one of an unknown kind, or an unknown
 * pre-tokenizer; FERRUM_EINVAL: pre is given for a tokenizer that has none; FERRUM_EFORMAT names the key that is wrong. */
FERRUM_API int ferrum_tokenizer_open(ferrum_tokenizer **out, const char *path, const char *pre, ferrum_error *err);
FERRUM_API void ferrum_tokenizer_close(ferrum_tokenizer *t);

/* The model's own: do not close it. NULL where the file has none (tokenizer.ggml.model is no_vocab or absent). */
FERRUM_API const ferrum_tokenizer *ferrum_model_tokenizer(const ferrum_model *model);

typedef struct ferrum_tokenizer_info {
    const char *kind;                                    /* "bpe", "spm", "ugm", "wpm" */
    const char *pre;                                     /* the name of its pre-tokenizer; "": it has none */
    uint32_t size;                                       /* tokens; ids are 0 … size-1 */
    uint32_t longest;                                    /* bytes of the longest token */
    int32_t bos, eos, unknown, separator, padding, mask; /* -1: none */
    bool add_bos, add_eos;                               /* what FERRUM_ADD_SPECIAL adds */
} ferrum_tokenizer_info;
FERRUM_API void ferrum_tokenizer_get_info(const ferrum_tokenizer *t, ferrum_tokenizer_info *info);

enum ferrum_tokenize_flags {
    FERRUM_ADD_SPECIAL = 1,   /* the begin (and end) token where the model's metadata asks for it */
    FERRUM_PARSE_SPECIAL = 2, /* text such as <|im_end|> becomes its control token; without it, it stays text */
};

/* *ids: `*count` ids; release with ferrum_free. Special tokens are cut out first, the longest at each place: user-defined ones
 * always, control tokens and the unknown token with FERRUM_PARSE_SPECIAL. With both flags a text that spells the begin token at
 * its start gets no second one. Text need not be valid UTF-8 and may hold NULs: every byte has a token, or becomes the unknown
 * token where the vocabulary lacks it. Takes time and memory in proportion to the text.
 * FERRUM_ELIMIT for 2 GiB and more; FERRUM_EUNSUPPORTED names a byte that has no token where there is no unknown one; the same
 * where t is NULL. */
FERRUM_API int ferrum_tokenize(const ferrum_tokenizer *t, const char *text, size_t len, unsigned flags, int32_t **ids,
                               size_t *count, ferrum_error *err);

/* The bytes that the ids stand for: *text is NUL-terminated, `*len` long without the NUL; release with ferrum_free. Control
 * tokens give nothing unless `special`. Not always whole UTF-8: a token may end inside a sequence.
 * FERRUM_EINVAL names an id outside the vocabulary; FERRUM_EUNSUPPORTED: t is NULL. */
FERRUM_API int ferrum_detokenize(const ferrum_tokenizer *t, const int32_t *ids, size_t count, bool special, char **text,
                                 size_t *len, ferrum_error *err);

/* The bytes of one token, as they stand inside a text; of control tokens, their spelling. Their number is returned, and `size`
 * of them at most are written; 0 for ids outside the vocabulary. info.longest bytes are always enough. */
FERRUM_API size_t ferrum_token_bytes(const ferrum_tokenizer *t, int32_t id, char *bytes, size_t size);

/* With the numbers of tokenizer.ggml.token_type. */
typedef enum ferrum_token_kind {
    FERRUM_TOKEN_NONE = 0, /* outside the vocabulary */
    FERRUM_TOKEN_NORMAL = 1,
    FERRUM_TOKEN_UNKNOWN = 2,
    FERRUM_TOKEN_CONTROL = 3,
    FERRUM_TOKEN_USER = 4, /* user-defined: text that is always this token */
    FERRUM_TOKEN_UNUSED = 5,
    FERRUM_TOKEN_BYTE = 6,
} ferrum_token_kind;
FERRUM_API ferrum_token_kind ferrum_token_get_kind(const ferrum_tokenizer *t, int32_t id);

/* The token that the vocabulary spells exactly so, or -1. */
FERRUM_API int32_t ferrum_token_find(const ferrum_tokenizer *t, const char *spelling, size_t len);

/* Does the token end an answer? EOS, EOT, EOM and the well-known end-of-turn tokens. False for ids outside the vocabulary. */
FERRUM_API bool ferrum_token_is_end(const ferrum_tokenizer *t, int32_t id);

/* ---- Chat -------------------------------------------------------------------------------------------------------- */

/* What a conversation becomes, by a template in the language Jinja: the model's own, or one that is given. The text is byte for
 * byte what Python's jinja2 makes of it in the mode that transformers uses; what it does not offer it refuses by name. */
typedef struct ferrum_chat_request {
    const char *messages; /* a JSON array, of objects such as the template takes: role, content, tool_calls … */
    const char *tools;    /* a JSON array; NULL: none */
    const char
        *variables; /* a JSON object of what else the template is to know: {"enable_thinking": false}; NULL: nothing */
    const char *template_text; /* in place of the model's; NULL: the model's */
    const char *
        template_name; /* of the model's tokenizer.chat_template.NAME; NULL: tool_use where there are tools and the model
                                  has it, or else tokenizer.chat_template */
    bool answer;       /* add_generation_prompt: the text ends where the assistant is to speak */
    const struct tm
        *now; /* what the template's strftime_now tells; NULL: the template finds no such function, and those
                                  that use it have a fixed date instead. The library reads no clock */
} ferrum_chat_request;

/* *text: `*len` bytes and a NUL; release with ferrum_free. Ready for ferrum_tokenize with FERRUM_ADD_SPECIAL and FERRUM_PARSE_SPECIAL:
 * a begin token that the template writes is not doubled. The template's variables are messages, tools, documents (none),
 * add_generation_prompt, bos_token, eos_token and the like as far as the model has them, then those of the request.
 * model NULL: template_text must be given, and there are no tokens but those in `variables`.
 * Contents go in as they are: one that spells a control token ("<|im_end|>") becomes that token, so whoever lets strangers write
 * them refuses such text first (ferrum_token_find knows the spellings).
 * FERRUM_EUNSUPPORTED: there is no template; FERRUM_EFORMAT names the line of the template, or of the JSON, that is wrong;
 * FERRUM_EINVAL: the template refuses the conversation, in its own words; FERRUM_ELIMIT: it takes too many steps, too much
 * memory or goes too deep. */
FERRUM_API int ferrum_chat_render(const ferrum_model *model, const ferrum_chat_request *request, char **text,
                                  size_t *len, ferrum_error *err);

typedef struct ferrum_message {
    const char *role; /* "system", "user", "assistant", or what else the template knows */
    const char *content;
} ferrum_message;

/* The same for messages of text alone, by the model's own template. Bytes that are not UTF-8 become U+FFFD, as they do where
 * answers are handed out. FERRUM_EINVAL: no message, or one without a role or content. */
FERRUM_API int ferrum_chat_format(const ferrum_model *model, const ferrum_message *messages, size_t count, bool answer,
                                  char **text, ferrum_error *err);

/* What an assistant says holds more than text: what it thought, and calls of tools, each family of models in a form of its own.
 * A reply tells them apart while the text comes:
 *
 *     ferrum_reply_open(&reply, model, &(ferrum_reply_options){.tools = tools, .prompt = prompt}, &err);
 *     while ((n = ferrum_session_next(session, piece, sizeof piece, &err)) > 0)
 *         ferrum_reply_feed(reply, piece, (size_t)n, false, tell, user, &err);
 *     ferrum_reply_feed(reply, "", 0, true, tell, user, &err);
 *
 * Nothing is lost: what begins like a call and is none is text. Which form it is the chat template shows, the one for tools where
 * there are tools and the model has it; where it shows none that is known, all is text. */
typedef struct ferrum_reply ferrum_reply;

typedef enum ferrum_part {
    FERRUM_PART_TEXT,
    FERRUM_PART_REASONING,
    FERRUM_PART_CALL,      /* a call begins: the text is the tool's name, told at once */
    FERRUM_PART_ARGUMENTS, /* of that call: JSON text */
} ferrum_part;

/* `call` counts calls from 0; of text and reasoning it says nothing. The text, no NUL behind it, is valid during the call. */
typedef void (*ferrum_reply_fn)(void *user, ferrum_part part, size_t call, const char *text, size_t len);

typedef struct ferrum_reply_options {
    const char *tools; /* a JSON array in OpenAI's form; NULL: calls stay text. Read while opening */
    const char
        *prompt; /* what the reply goes on from: where reasoning was opened there, it begins with it. NULL: unknown */
    const char
        *template_text; /* that wrote the prompt, in place of the model's own (ferrum_chat_request); NULL: its own */
} ferrum_reply_options;

/* options NULL: all of them NULL. FERRUM_EFORMAT: the tools are not JSON; FERRUM_EINVAL: they are no array. */
FERRUM_API int ferrum_reply_open(ferrum_reply **out, const ferrum_model *model, const ferrum_reply_options *options,
                                 ferrum_error *err);
/* Takes more of the text, `last` where none follows, and tells what is decided. FERRUM_ENOMEM. */
FERRUM_API int ferrum_reply_feed(ferrum_reply *r, const char *text, size_t len, bool last, ferrum_reply_fn fn,
                                 void *user, ferrum_error *err);
/* In place of the last feed where the answer broke off (FERRUM_FINISH_LENGTH, _CONTEXT): what may have been the beginning of a mark, or of a call
 * whose name or arguments have not begun, is not told as text, nor as anything. FERRUM_ENOMEM. */
FERRUM_API int ferrum_reply_cut(ferrum_reply *r, ferrum_reply_fn fn, void *user, ferrum_error *err);
/* Is what comes next reasoning? Of a reply that has not begun: has the prompt opened it? */
FERRUM_API bool ferrum_reply_in_reasoning(const ferrum_reply *r);
/* … more of a call's arguments? A reply that ends there has a call that is not whole. */
FERRUM_API bool ferrum_reply_in_arguments(const ferrum_reply *r);
FERRUM_API void ferrum_reply_close(ferrum_reply *r);

/* ---- Sessions ---------------------------------------------------------------------------------------------------- */

typedef struct ferrum_session ferrum_session;
typedef struct ferrum_batch ferrum_batch;
typedef struct fe_grammar ferrum_grammar; /* what a text may be, compiled: ferrum/grammar.h */

typedef struct ferrum_token_bias {
    int32_t id;
    float bias; /* added to the token's logit; minus infinity: it is never drawn */
} ferrum_token_bias;

/* Penalties and biases act on the logits, in the order in which they stand here, before all else. */
typedef struct ferrum_sampling {
    float temperature;             /* 0: greedy, and the rest is not used but penalties and biases; default 0.8 */
    uint32_t top_k;                /* 0: off; default 40 */
    float top_p;                   /* 1: off; default 0.95 */
    float min_p;                   /* 0: off; default 0.05 */
    float repetition_penalty;      /* 1: off (default) */
    uint32_t penalty_window;       /* the last so many tokens are penalised; default 64 */
    float presence_penalty;        /* taken off the logits of tokens that the answer has; 0: off (default) */
    float frequency_penalty;       /* the same for each time that it has them */
    const ferrum_token_bias *bias; /* copied; an id that is there twice has the sum */
    size_t bias_count;
    uint64_t seed; /* same seed, same text; 0 is a seed like any other */
} ferrum_sampling;

typedef struct ferrum_session_options {
    uint32_t context;    /* positions; 0: the lesser of 4,096 and what the model was trained for */
    uint32_t max_tokens; /* for each answer; 0: until the model ends it or the context is full */
    ferrum_sampling sampling;
    const char *const *stop; /* strings at whose first appearance the answer ends before them; copied */
    size_t stop_count;
    uint32_t logprobs;   /* keep the so many likeliest of every position; at most 100 */
    bool ignore_end;     /* go on after an end token */
    bool special;        /* control tokens are text, as the vocabulary spells them, but for one that ends the answer */
    ferrum_batch *batch; /* evaluates for the session, together with others; NULL: the session does it by itself */
    ferrum_kv kv;        /* default FERRUM_KV_DEFAULT */
    /* Every answer is one of its texts, or the beginning of one that was cut off; NULL: anything. The session holds it, as any
     * number of others may. Tokens that may not come are taken out before all else of sampling, which leaves the odds among the
     * rest as they are; an end token may come exactly where a text may end, and where nothing else may, the answer ends
     * (FERRUM_FINISH_STOP) without one. A stretch that has to come is taken in the tokenizer's own tokens, none of which is drawn.
     * Control tokens that the grammar names are text. */
    ferrum_grammar *grammar;
    /* Guess what comes next where the text has said the last few tokens before, and evaluate the guesses together with the token
     * that was drawn, so that those that turn out right cost no pass of their own. No text changes by it, nor a logit: each token is
     * drawn as it would be without. Guessing grows with success, and stops for a while where it does not pay. In a batch it takes
     * the rows that few answers leave of a step of 15. Devices "cpu" and "ref"; default: off. */
    bool lookup;
} ferrum_session_options;

FERRUM_API void ferrum_session_options_init(ferrum_session_options *options);

/* FERRUM_EUNSUPPORTED: the model gives embeddings alone (bert), or lookup is asked of a device whose numbers depend on the number
 * of tokens in a pass. FERRUM_EINVAL: the grammar is of another vocabulary, or there are
 * ignore_end and a grammar. */
FERRUM_API int ferrum_session_open(ferrum_session **out, const ferrum_model *model,
                                   const ferrum_session_options *options, ferrum_error *err);
FERRUM_API void ferrum_session_close(ferrum_session *s);

/* Evaluates the ids behind what is there and begins a new answer. Nothing is dropped to make room: FERRUM_ELIMIT names both
 * counts and the session stays as it was. FERRUM_EINVAL names an id outside the vocabulary. FERRUM_ECANCELED: what was
 * evaluated until then stays. */
FERRUM_API int ferrum_session_append(ferrum_session *s, const int32_t *ids, size_t count, ferrum_error *err);

/* The same, calling back with the logits of every one of the `count` positions (index from 0): scores over the vocabulary
 * before any softmax, valid during the call. */
typedef void (*ferrum_logits_fn)(void *user, size_t index, const float *logits, size_t vocab);
FERRUM_API int ferrum_session_score(ferrum_session *s, const int32_t *ids, size_t count, ferrum_logits_fn fn,
                                    void *user, ferrum_error *err);

/* The logits of the last position, valid until the session is used again; NULL before the first append, and where the device fails to
 * hand them over ("cuda" keeps them until they are asked for here, or a draw or a callback needs them all). */
FERRUM_API const float *ferrum_session_logits(const ferrum_session *s);

/* Draws tokens until there is text to hand out: the number of bytes written to text (whole UTF-8 sequences, at most
 * `size`, which must be 4 at least; no NUL is added); 0 when the answer has ended; negative on failure.
 * Bytes that are not UTF-8 come out as U+FFFD. */
FERRUM_API int ferrum_session_next(ferrum_session *s, char *text, size_t size, ferrum_error *err);

typedef enum ferrum_finish {
    FERRUM_FINISH_NONE,     /* not ended */
    FERRUM_FINISH_STOP,     /* an end token or a stop string */
    FERRUM_FINISH_LENGTH,   /* max_tokens */
    FERRUM_FINISH_CONTEXT,  /* the context is full */
    FERRUM_FINISH_CANCELED, /* ferrum_session_cancel */
} ferrum_finish;
FERRUM_API ferrum_finish ferrum_session_finish(const ferrum_session *s);
FERRUM_API const char *ferrum_finish_name(ferrum_finish f); /* "stop", "length", "length" for the context, "canceled" */

/* The tokens drawn for the current answer, an end token included; valid until the session is used again. */
FERRUM_API const int32_t *ferrum_session_answer(const ferrum_session *s, size_t *count);

/* With options.logprobs: what the model gave at the answer's token `index`, likeliest first, before temperature and the other
 * settings of sampling. */
typedef struct ferrum_logprob {
    int32_t id;
    float logprob; /* natural logarithm */
} ferrum_logprob;
FERRUM_API const ferrum_logprob *ferrum_session_logprobs(const ferrum_session *s, size_t index, size_t *count);
/* The same of the token that was drawn there, be it one of the likeliest or not. id -1: there is none, or none is kept. */
FERRUM_API ferrum_logprob ferrum_session_drawn(const ferrum_session *s, size_t index);

/* The ids in the KV cache, and cutting them to the first `count` (so that a changed conversation keeps its common start). */
FERRUM_API const int32_t *ferrum_session_tokens(const ferrum_session *s, size_t *count);
FERRUM_API int ferrum_session_truncate(ferrum_session *s, size_t count, ferrum_error *err);

/* Makes a running append, score or next return soon. Async-signal-safe, and may be called from any thread. The next append
 * clears it. */
FERRUM_API void ferrum_session_cancel(ferrum_session *s);

typedef struct ferrum_timings {
    uint64_t prompt_tokens, answer_tokens; /* of the current answer */
    uint64_t reused_tokens; /* of the prompt's: their keys and values were in the batch's cache already */
    double prompt_seconds, answer_seconds;
    uint64_t guessed_tokens,
        guessed_right; /* with options.lookup: evaluated as guesses, and those that were drawn then */
} ferrum_timings;
FERRUM_API void ferrum_session_timings(const ferrum_session *s, ferrum_timings *out);

FERRUM_API uint32_t ferrum_session_context(const ferrum_session *s);

/* ---- Embeddings --------------------------------------------------------------------------------------------------
 *
 *     ferrum_tokenize(ferrum_model_tokenizer(model), text, strlen(text), FERRUM_ADD_SPECIAL, &ids, &count, &err);
 *     float vector[info.embedding_length];
 *     ferrum_model_embed(model, &(ferrum_ids){ids, count}, 1, NULL, vector, &err); */

typedef struct ferrum_ids {
    const int32_t *ids;
    size_t count;
} ferrum_ids;

typedef struct ferrum_embed_options {
    ferrum_pooling pooling;      /* MEAN, CLS or LAST; NONE (default): as the file says */
    bool as_it_is;               /* leave vectors as long as they come; default: they are brought to length 1 */
    ferrum_progress_fn progress; /* in tokens, before each pass and at the end; NULL: none */
    void *progress_user;
} ferrum_embed_options;

FERRUM_API void ferrum_embed_options_init(ferrum_embed_options *options);

/* out[count][embedding_length], fp32, the caller's: one vector a text, in their order. Short texts share passes; memory goes by
 * what a pass takes, 512 tokens or the longest text, and not by the number of texts. options NULL: the defaults. Any number of
 * threads may embed with one model.
 * Errors name the text, counted from 0: FERRUM_ELIMIT, with both numbers, for one of more tokens than the model's context_length;
 * FERRUM_EINVAL for one of no tokens, or with an id outside the vocabulary. FERRUM_EUNSUPPORTED: neither the file nor the options
 * name a pooling, or it is RANK. FERRUM_ECANCELED: progress gave false. `out` is not to be used then. */
FERRUM_API int ferrum_model_embed(const ferrum_model *model, const ferrum_ids *texts, size_t count,
                                  const ferrum_embed_options *options, float *out, ferrum_error *err);

/* ---- Batches -----------------------------------------------------------------------------------------------------
 * Several sessions, evaluated together: a pass reads the weights once for the tokens of all of them.
 *
 *     ferrum_batch_open(&batch, model, NULL, &err);
 *     options.batch = batch;
 *     for (i = 0; i < n; i++) {
 *         ferrum_session_open(&s[i], model, &options, &err);
 *         ferrum_session_append(s[i], ids[i], count[i], &err);           // left to the batch
 *     }
 *     while (ferrum_batch_step(batch, s, n, &err) > 0)
 *         for (i = 0; i < n; i++)
 *             while ((got = ferrum_session_next(s[i], piece, sizeof piece, &err)) > 0) deliver(i, piece, got);
 *
 * A session of a batch evaluates nothing: append leaves its ids waiting, behind those that wait already, and next draws from
 * what the last step gave, at most one token a step, with what a grammar forces behind it, so that it returns 0 also where the
 * session has to wait for another; ferrum_session_finish tells whether the answer has ended. ferrum_session_tokens counts what
 * is evaluated, ferrum_session_logits is NULL while a prompt waits, and ferrum_session_score is FERRUM_EINVAL. All else is as it
 * is by itself. Sessions come and go between steps: open, append, truncate, cancel or close any of them, list those that are to go
 * on. What waits in one that was cancelled is dropped.
 *
 * The others in a step alter a session's numbers only where a product or attention rounds differently for another number of rows: not on
 * "ref" nor on the CPU without AMX, where a text is the same, to the bit of its logits, alone and in any company. Its sampler, and
 * all else that is drawn from, is its own.
 *
 * Threads: a step needs its batch and the sessions in it for itself (ferrum_session_cancel excepted); between steps each of
 * the sessions belongs to one thread at a time, as it does by itself, so that many may draw at once. */
/* With `positions` the sessions have no KV caches of their own but share one, in pages of FERRUM_KV_PAGE positions, which they take
 * as their tokens come. Pages outlive their session, as long as nobody needs the room, and are found again by their tokens: a
 * prompt that begins like an earlier one's timeline is evaluated from where they part. Where room runs out, sessions of a step's
 * list give their pages up, those in which nothing waits first and then those that stand last, and are evaluated again when
 * there is room; no text changes by it but as above. A session whose answer has ended has none. */
typedef struct ferrum_batch_options {
    uint32_t positions; /* of the KV cache that the sessions share; 0 (default): each has its own */
    ferrum_kv kv;       /* of that; default FERRUM_KV_DEFAULT */
    uint32_t
        prompt_rows; /* tokens of prompts that a step with answers in it evaluates at most; 0 (default): all that fit */
    uint32_t
        rows; /* tokens that a step evaluates at most; default 512. A prompt joins so many at a time, which the others wait
                      for. Memory for activations goes by it. */
} ferrum_batch_options;

FERRUM_API void ferrum_batch_options_init(ferrum_batch_options *options);

/* options NULL: the defaults. */
FERRUM_API int ferrum_batch_open(ferrum_batch **out, const ferrum_model *model, const ferrum_batch_options *options,
                                 ferrum_error *err);
FERRUM_API void ferrum_batch_close(ferrum_batch *b); /* after its sessions */

typedef struct ferrum_batch_stats {
    uint64_t positions, used_positions,
        kept_positions;     /* of the shared KV cache: all, sessions', and those kept for others */
    uint64_t reused_tokens; /* ever, of prompts */
    uint64_t preemptions;   /* ever: sessions that gave their pages up */
} ferrum_batch_stats;
FERRUM_API void ferrum_batch_get_stats(ferrum_batch *b, ferrum_batch_stats *out); /* between steps */

/* Evaluates what waits in the sessions, in one pass: first answers, then prompts, in the order of the list
 * and as far as there is room. The number of tokens evaluated; 0: nothing waits; negative on failure, and then all sessions
 * are as they were and the step can be repeated.
 * FERRUM_EINVAL names the index of a session that is not of this batch or is there twice; FERRUM_ELIMIT: more sessions than
 * rows, or all pages are those of sessions that are not listed. */
FERRUM_API int ferrum_batch_step(ferrum_batch *b, ferrum_session *const *sessions, size_t count, ferrum_error *err);

#ifdef __cplusplus
}
#endif
#endif
