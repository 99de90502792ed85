/* The Objective-C runtime's C interface: classes, selectors, messages, counted references, pools. Any thread may use it. */
#include "objc.h"
#include "sim.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *sure(void *p) {
    if (p) return p;
    perror("metal_sim");
    exit(1);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of names and references */

/* ---- Names ---- */

void *objc_getClass(const char *name) {
    for (const class *const *c = sim_classes; *c; c++)
        if (strcmp((*c)->name, name) == 0) return (void *)(uintptr_t)*c;
    return NULL;
}

/* A name has one selector, so that they can be compared by address; it is not that of the caller's string. */
void *sel_registerName(const char *name) {
    static struct known {
        struct known *next;
        char name[];
    } * first;
    pthread_mutex_lock(&lock);
    struct known *k = first;
    while (k && strcmp(k->name, name) != 0) k = k->next;
    if (!k) {
        k = sure(malloc(sizeof *k + strlen(name) + 1));
        strcpy(k->name, name);
        k->next = first;
        first = k;
    }
    pthread_mutex_unlock(&lock);
    return k->name;
}

/* ---- References ---- */

static object *objects; /* all that ever were */

void *sim_object(const class *isa) {
    object *o = sure(calloc(1, isa->bytes));
    pthread_mutex_lock(&lock);
    *o = (object){isa, 1, objects};
    objects = o;
    pthread_mutex_unlock(&lock);
    return o;
}

size_t sim_object_count(void) {
    size_t count = 0;
    pthread_mutex_lock(&lock);
    for (const object *o = objects; o; o = o->next) count += o->references > 0;
    pthread_mutex_unlock(&lock);
    return count;
}

/* The references there were before. */
static size_t add_references(object *o, int change) {
    pthread_mutex_lock(&lock);
    size_t before = o->references;
    if (before) o->references += (size_t)change;
    pthread_mutex_unlock(&lock);
    return before;
}

void *sim_retain(void *self) {
    if (self) add_references(self, 1);
    return self;
}

void sim_release(void *self) {
    object *o = self;
    if (!o) return;
    size_t before = add_references(o, -1);
    if (before == 0)
        sim_fault("%s: released once too often", o->isa->name);
    else if (before == 1 && o->isa->dealloc)
        o->isa->dealloc(o);
}

enum { POOLED = 4096 };
static _Thread_local void *pooled[POOLED];
static _Thread_local size_t pooled_count, pool_count;

void *objc_autoreleasePoolPush(void) {
    pool_count++;
    return (void *)(uintptr_t)(pooled_count + 1);
}

void objc_autoreleasePoolPop(void *pool) {
    pool_count--;
    while (pooled_count + 1 > (uintptr_t)pool) sim_release(pooled[--pooled_count]);
}

void *sim_autorelease(void *self) {
    if (!self) return NULL;
    if (pool_count == 0 || pooled_count == POOLED)
        sim_fault("%s: autoreleased %s", ((object *)self)->isa->name,
                  pool_count ? "into a pool that is never emptied" : "without a pool");
    else
        pooled[pooled_count++] = self;
    return self;
}

/* ---- Messages ---- */

static const method *find(const class *c, const char *selector) {
    static const method common[] = {{"retain", (void (*)(void))sim_retain},
                                    {"release", (void (*)(void))sim_release},
                                    {"autorelease", (void (*)(void))sim_autorelease},
                                    {0}};
    for (const method *m = c->methods; m->selector; m++)
        if (strcmp(m->selector, selector) == 0) return m;
    for (const method *m = common; m->selector; m++)
        if (strcmp(m->selector, selector) == 0) return m;
    return NULL;
}

static void *answer_nil(void) { return NULL; }

/* What objc_msgSend jumps to. */
void (*sim_implementation(const object *self, const char *selector))(void);
void (*sim_implementation(const object *self, const char *selector))(void) {
    bool is_class = false;
    for (const class *const *c = sim_classes; *c; c++) is_class |= (const void *)*c == self;
    if (!is_class && self->references == 0) {
        sim_fault("%s: a message to a released object: %s", self->isa->name, selector);
        return (void (*)(void))answer_nil;
    }
    const method *m = self->isa ? find(self->isa, selector) : NULL;
    if (m) return m->implementation;
    sim_fault("%s: does not know the selector %s",
              is_class ? ((const class *)(const void *)self)->name : self->isa->name, selector);
    return (void (*)(void))answer_nil;
}

/* Keeps all registers that may hold arguments and leaves the stack, where further ones lie, as it was. nil answers 0. */
__asm__(".text\n"
        ".globl objc_msgSend\n"
        ".type objc_msgSend, @function\n"
        "objc_msgSend:\n"
        "    testq %rdi, %rdi\n"
        "    je 1f\n"
        "    pushq %rbp\n"
        "    movq %rsp, %rbp\n"
        "    pushq %rax\n    pushq %rdi\n    pushq %rsi\n    pushq %rdx\n    pushq %rcx\n    pushq %r8\n    pushq %r9\n"
        "    subq $136, %rsp\n"
        "    movups %xmm0, (%rsp)\n    movups %xmm1, 16(%rsp)\n"
        "    movups %xmm2, 32(%rsp)\n    movups %xmm3, 48(%rsp)\n"
        "    movups %xmm4, 64(%rsp)\n    movups %xmm5, 80(%rsp)\n"
        "    movups %xmm6, 96(%rsp)\n    movups %xmm7, 112(%rsp)\n"
        "    call sim_implementation\n"
        "    movq %rax, %r11\n"
        "    movups (%rsp), %xmm0\n    movups 16(%rsp), %xmm1\n"
        "    movups 32(%rsp), %xmm2\n    movups 48(%rsp), %xmm3\n"
        "    movups 64(%rsp), %xmm4\n    movups 80(%rsp), %xmm5\n"
        "    movups 96(%rsp), %xmm6\n    movups 112(%rsp), %xmm7\n"
        "    addq $136, %rsp\n"
        "    popq %r9\n    popq %r8\n    popq %rcx\n    popq %rdx\n    popq %rsi\n    popq %rdi\n    popq %rax\n"
        "    popq %rbp\n"
        "    jmp *%r11\n"
        "1:  xorl %eax, %eax\n    xorl %edx, %edx\n    xorps %xmm0, %xmm0\n    xorps %xmm1, %xmm1\n"
        "    ret\n"
        ".size objc_msgSend, .-objc_msgSend\n");
