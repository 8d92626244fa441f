/* The simulated card: what its parts share.
 *
 * Work that is enqueued is done at once, on memory of the host: copies and fills for real, kernels only counted. What
 * is kept exactly is what a program may do and when: contexts, lifetimes of memory, and above all stream capture.
 * Each rule stands beside the place of CUDA's documentation that states it:
 *   driver    CUDA Driver API reference, the section that is named
 *   guide     CUDA C++ Programming Guide, "CUDA Graphs", "Creating a Graph Using Stream Capture"
 */
#ifndef CARD_H
#define CARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOST_DEVICES 8

#define EXPORT __attribute__((visibility("default")))

typedef int CUresult;
typedef int CUdevice;
typedef uintptr_t CUdeviceptr;

/* driver, "Data types used by CUDA driver", CUresult. */
enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_ILLEGAL_STATE = 401,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_NOT_SUPPORTED = 801,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
    CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
    CUDA_ERROR_CAPTURED_EVENT = 907,
    CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
};

/* driver, CUstreamCaptureMode and CUstreamCaptureStatus. */
enum { CAPTURE_GLOBAL = 0, CAPTURE_THREAD_LOCAL = 1, CAPTURE_RELAXED = 2 };
enum { NOT_CAPTURING = 0, CAPTURING = 1, CAPTURE_INVALID = 2 };

/* driver, CUstream_flags and CUevent_flags. */
enum { STREAM_NON_BLOCKING = 1 };
enum { EVENT_DISABLE_TIMING = 2 };

typedef enum { NODE_COPY, NODE_FILL, NODE_KERNEL, NODE_HOST_CALL } NodeKind;

/* One piece of work. */
typedef struct {
    NodeKind kind;
    void *target;
    const void *source;
    size_t bytes;
    int value;
    void (*call)(void *);
    void *argument;
    const char *name; /* of a kernel; NULL = it has none */
} Node;

typedef struct {
    Node *nodes;
    size_t count, room;
    int references;
} Graph;

typedef struct Capture {
    int mode;
    long thread;
    bool invalid;
    unsigned long long id;
    Graph *graph;
    struct Stream *stream;
    struct Capture *next;
} Capture;

typedef struct Stream {
    int device;
    unsigned flags;
    int priority;
    Capture *capture;
} Stream;

typedef struct {
    int device;
    unsigned flags;
    bool recorded;
    double milliseconds;
    unsigned long long capture_id; /* of the capture that it was recorded in; 0 = none */
} Event;

/* What tests read with card_count(). */
typedef enum {
    COUNT_CAPTURES,       /* that were begun */
    COUNT_CAPTURES_LOST,  /* that were invalidated */
    COUNT_UNSAFE_CALLS,   /* that were refused because of a capture */
    COUNT_GRAPH_LAUNCHES,
    COUNT_KERNELS,        /* launched or captured */
    COUNT_ALLOCATIONS,    /* of device or pinned memory */
    COUNT_DEVICE_BYTES,   /* now */
    COUNT_DEVICE_PEAK,
    COUNT_PINNED_BYTES,   /* now */
    COUNT_HOST_WAITS,
    COUNTS
} Count;

/* control.c */
void card_add(Count what, long long amount);
long long card_count(Count what);
bool card_is_hollow(void);
size_t card_memory_size(void);
int card_devices(void);
bool card_allocation_must_fail(void);
bool card_capture_must_fail(void);
bool card_captured_work_must_fail(void);
CUresult card_failure(void);
void card_fail(CUresult status);
void card_lock(void);
void card_unlock(void);

/* names.c */
void card_name_function(const void *function, const char *name);
const char *card_function_name(const void *function);
void card_note(const char *name);
void card_forget_names(void);

/* context.c */
bool card_has_context(void);
int card_current_device(void);

/* capture.c */
CUresult card_refuse_unsafe(void);
CUresult card_refuse_wait(Stream *stream);
CUresult card_refuse_device_wait(void);
CUresult card_refuse_legacy_stream(void);
void card_invalidate(Capture *capture);
bool card_is_special(const Stream *stream);
int card_capture_status(const Stream *stream);

/* graph.c */
Graph *card_new_graph(void);
void card_release_graph(Graph *graph);
void card_append(Graph *graph, const Node *node);

/* work.c */
CUresult card_enqueue(Stream *stream, Node node);
CUresult card_run(const Node *node);

/* memory.c */
bool card_may_touch(const void *address, size_t bytes);

/* Every entry point of the driver begins so: driver, "cuGetErrorName … Note that this function may also return error
 * codes from previous, asynchronous launches"; CUDA_ERROR_ILLEGAL_ADDRESS: "any further CUDA work will return the same
 * error. To continue using CUDA, the process must be terminated and relaunched". */
#define RETURN_IF_BROKEN()                                                                                             \
    do {                                                                                                               \
        if (card_failure() != CUDA_SUCCESS) return card_failure();                                                     \
    } while (0)

/* driver, "Context Management": a call without a context that is current to the calling thread fails. */
#define RETURN_WITHOUT_CONTEXT()                                                                                       \
    do {                                                                                                               \
        RETURN_IF_BROKEN();                                                                                            \
        if (!card_has_context()) return CUDA_ERROR_INVALID_CONTEXT;                                                    \
    } while (0)

#endif
