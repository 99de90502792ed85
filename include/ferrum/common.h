/* ferrum/common.h: what every public header shares: version, errors, logging.
 *
 * Conventions of the whole library:
 *   - A function that can fail returns 0 (FERRUM_OK) or a negative FERRUM_E… code and, where `err` is not NULL, fills the
 *     caller's ferrum_error with one sentence that names what is wrong (the file, the field, both numbers).
 *   - The library never prints, exits, aborts or reads the environment.
 *   - Strings are UTF-8. Sizes are in bytes, counts in elements, times in seconds, unless a comment says otherwise.
 */
#ifndef FERRUM_COMMON_H
#define FERRUM_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(FERRUM_STATIC)
#define FERRUM_API __attribute__((visibility("default")))
#else
#define FERRUM_API
#endif

/* The version of the library that is linked, as "major.minor.patch". */
FERRUM_API const char *ferrum_version(void);

enum ferrum_status {
    FERRUM_OK = 0,
    FERRUM_EINVAL = -1,       /* an argument, shape or state that the call does not accept */
    FERRUM_ENOMEM = -2,       /* memory could not be had */
    FERRUM_EIO = -3,          /* a file could not be opened, read, mapped or written */
    FERRUM_EFORMAT = -4,      /* a file's contents contradict its format */
    FERRUM_EUNSUPPORTED = -5, /* well-formed, but of a kind that this version does not know */
    FERRUM_ELIMIT = -6,       /* more than fits: a prompt longer than the context, and its like */
    FERRUM_EDEVICE = -7,      /* the device is missing or failed */
    FERRUM_ECANCELED = -8,    /* the caller asked to stop */
};

/* Filled on failure, left alone on success. Owned by the caller; no part of it needs freeing. */
typedef struct ferrum_error {
    int code;          /* the FERRUM_E… that the function returned */
    char message[508]; /* one sentence, NUL-terminated, without a trailing period or newline */
} ferrum_error;

enum ferrum_log_level { FERRUM_LOG_DEBUG, FERRUM_LOG_INFO, FERRUM_LOG_WARN };

/* Receives one line without its newline. May be called from the thread that called the library, never from another. */
typedef void (*ferrum_log_fn)(void *user, enum ferrum_log_level level, const char *line);

/* Called now and then, from the thread that called the library, and last with done == total. False: stop, with
 * FERRUM_ECANCELED. */
typedef bool (*ferrum_progress_fn)(void *user, uint64_t done, uint64_t total);

/* *out: the text with U+FFFD in place of each byte that is not UTF-8, `*out_len` bytes and a NUL; release with ferrum_free.
 * FERRUM_ENOMEM. */
FERRUM_API int ferrum_utf8_repair(const char *text, size_t len, char **out, size_t *out_len, ferrum_error *err);

/* Frees what a function of this library documents as "release with ferrum_free". NULL is allowed. */
FERRUM_API void ferrum_free(void *p);

#ifdef __cplusplus
}
#endif
#endif
