/* Functions of NVIDIA's libraries that only have to succeed. Their work would be kernels: those are counted. */
#ifndef STUB_H
#define STUB_H

#include "driver.h"

/* A handle of its own for whoever makes one, as the first argument. */
#define MAKES_HANDLE(name)                                                                                             \
    EXPORT int name(void **handle) {                                                                                   \
        static char one;                                                                                               \
        *handle = &one;                                                                                                \
        return 0;                                                                                                      \
    }

#define SUCCEEDS(name)                                                                                                 \
    EXPORT int name(void) { return 0; }

/* The stream is part of the library's handle; all work of the one handle of a thread goes where it was set last. */
#define WORKS_IN(stream, name)                                                                                         \
    EXPORT int name(void) { return card_launch_kernel(stream, #name) ? 1 : 0; }

#endif
