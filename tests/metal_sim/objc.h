/* Objects of the simulated Objective-C runtime. */
#ifndef SIM_OBJC_H
#define SIM_OBJC_H

#include <stddef.h>

typedef struct method {
    const char *selector;
    void (*implementation)(void);
} method;

typedef struct class class;
struct class {
    const class *isa; /* its class methods; NULL: it has none */
    const char *name;
    const method *methods; /* up to one without a selector */
    size_t bytes;          /* of an object */
    void (*dealloc)(void *self);
};

/* What every object begins with. */
typedef struct object {
    const class *isa;
    size_t references; /* 0: released; the object stays, so that messages to it are noticed */
    struct object *next;
} object;

/* Zeroed, with one reference, the caller's. */
void *sim_object(const class *isa);
void *sim_retain(void *object); /* nil stays nil, here and below */
void sim_release(void *object);
void *sim_autorelease(void *object);
size_t sim_object_count(void); /* of those that are not released */

/* The program's classes: metal.c. Up to NULL. */
extern const class *const sim_classes[];

/* The runtime itself, as Apple's headers declare it. */
void *objc_getClass(const char *name);
void *sel_registerName(const char *name);
void *objc_autoreleasePoolPush(void);
void objc_autoreleasePoolPop(void *pool);
void objc_msgSend(void);

#endif
