/* Which work was enqueued, by name, and how often. Kernels of the runtime library are registered with theirs; calls of
 * cuBLAS and cuDNN are named after the function. */
#define _GNU_SOURCE
#include "card.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 16 }; /* of each table; a library of kernels has some thousand */

typedef struct {
    const void *function;
    const char *name;
} Function;

typedef struct {
    const char *name;
    long long count;
} Launches;

static Function *functions;
static Launches launches[4096];
static int kinds;

static Function *slot(const void *function) {
    size_t place = ((uintptr_t)function >> 4) % ROOM;
    while (functions[place].function && functions[place].function != function) place = (place + 1) % ROOM;
    return &functions[place];
}

/* While libraries are loaded. Names lie in their images, which stay. */
EXPORT void card_name_function(const void *function, const char *name) {
    card_lock();
    if (!functions) functions = calloc(ROOM, sizeof *functions);
    *slot(function) = (Function){function, name};
    card_unlock();
}

EXPORT const char *card_function_name(const void *function) {
    card_lock();
    const char *name = functions ? slot(function)->name : NULL;
    card_unlock();
    return name;
}

/* One piece of work of that name was enqueued. */
void card_note(const char *name) {
    name = name ? name : "kernel";
    card_lock();
    int kind = 0;
    while (kind < kinds && strcmp(launches[kind].name, name) != 0) kind++;
    if (kind == kinds && kinds < (int)(sizeof launches / sizeof *launches)) launches[kinds++].name = name;
    if (kind < kinds) launches[kind].count++;
    card_unlock();
}

void card_forget_names(void) { kinds = 0, memset(launches, 0, sizeof launches); }

/* The name of one kind of work and how often it was enqueued since the last reset; NULL behind the last kind. */
EXPORT const char *card_launches(int kind, long long *count) {
    *count = kind < kinds ? launches[kind].count : 0;
    return kind < kinds ? launches[kind].name : NULL;
}
