/* What a test sets and reads: the card's size, failures on demand, counts. Not part of CUDA; names begin with card_. */
#define _GNU_SOURCE
#include "card.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t lock;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static long long counts[COUNTS];
static size_t memory_size = (size_t)80 << 30;
static bool hollow;
static int devices = 1;
static int allocations_until_failure = -1;
static int captures_until_failure = -1;
static int nodes_until_failure = -1;
static CUresult failure = CUDA_SUCCESS;

static void start(void) {
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&lock, &recursive);
    const char *size = getenv("CARD_MEMORY");
    if (size) memory_size = strtoull(size, NULL, 10);
    hollow = getenv("CARD_HOLLOW") != NULL;
    const char *number = getenv("CARD_DEVICES");
    if (number) devices = atoi(number);
    if (devices < 1 || devices > MOST_DEVICES) abort();
}

/* One lock for all state of the card. */
void card_lock(void) {
    pthread_once(&once, start);
    pthread_mutex_lock(&lock);
}

void card_unlock(void) { pthread_mutex_unlock(&lock); }

void card_add(Count what, long long amount) {
    card_lock();
    counts[what] += amount;
    if (counts[COUNT_DEVICE_BYTES] > counts[COUNT_DEVICE_PEAK]) counts[COUNT_DEVICE_PEAK] = counts[COUNT_DEVICE_BYTES];
    card_unlock();
}

/* Whether bytes stay where they are (environment CARD_HOLLOW): for models that are larger than this machine. */
bool card_is_hollow(void) {
    pthread_once(&once, start);
    return hollow;
}

size_t card_memory_size(void) {
    pthread_once(&once, start);
    return memory_size;
}

/* How many devices there are (environment CARD_DEVICES; one by default). */
int card_devices(void) {
    pthread_once(&once, start);
    return devices;
}

static bool is_due(int *left) {
    card_lock();
    bool due = *left == 0;
    if (*left >= 0) --*left;
    card_unlock();
    return due;
}

bool card_allocation_must_fail(void) { return is_due(&allocations_until_failure); }

bool card_capture_must_fail(void) { return is_due(&captures_until_failure); }

bool card_captured_work_must_fail(void) { return is_due(&nodes_until_failure); }

CUresult card_failure(void) { return failure; }

/* From now on every call fails so, until card_reset(). */
EXPORT void card_fail(CUresult status) { failure = status; }

/* Let one allocation fail: the next (0), or one after it. −1 takes it back. */
EXPORT void card_fail_allocation(int after) { allocations_until_failure = after; }

/* Let one capture be invalidated as it ends, as if another thread had made an unsafe call meanwhile. */
EXPORT void card_lose_capture(int after) { captures_until_failure = after; }

/* The same in the middle: at the next piece of work that is captured, or one after it. */
EXPORT void card_lose_capture_midway(int after) { nodes_until_failure = after; }

/* Bytes of the card (environment CARD_MEMORY; 80 GiB by default). */
EXPORT void card_set_memory(size_t bytes) {
    pthread_once(&once, start);
    memory_size = bytes;
}

EXPORT long long card_count(Count what) { return what >= 0 && what < COUNTS ? counts[what] : -1; }

/* The largest use of device memory from now on. */
EXPORT void card_forget_peak(void) {
    card_lock();
    counts[COUNT_DEVICE_PEAK] = counts[COUNT_DEVICE_BYTES];
    card_unlock();
}

/* No failure is due, and none has happened. Memory, streams and counts of bytes stay. */
EXPORT void card_reset(void) {
    card_lock();
    failure = CUDA_SUCCESS;
    allocations_until_failure = captures_until_failure = nodes_until_failure = -1;
    for (Count what = 0; what < COUNTS; what++)
        if (what != COUNT_DEVICE_BYTES && what != COUNT_DEVICE_PEAK && what != COUNT_PINNED_BYTES) counts[what] = 0;
    card_forget_names();
    card_unlock();
}
