/* Device memory and page-locked memory. driver, "Memory Management", "Stream Ordered Memory Allocator".
 *
 * Device memory lies in one range of addresses that is reserved once and never given out twice, so a use after free is
 * seen. Its pages take memory of the host only where they are touched.
 */
#define _GNU_SOURCE
#include "card.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RESERVED ((size_t)512 << 30)
#define PAGE ((size_t)4096)
#define NOISE 0xCD /* new memory is not zero: driver, cuMemAlloc: "the memory is not cleared" */
#define NOISY_BYTES ((size_t)1 << 20) /* more of it would take memory of the host that nobody asked for */

typedef struct {
    char *start;
    size_t bytes;
    bool pinned;
} Block;

static Block *blocks;
static size_t count, room;
static char *region;
static size_t used_addresses;

static size_t whole_pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

static void note(char *start, size_t bytes, bool pinned) {
    if (count == room) {
        room = room ? 2 * room : 256;
        blocks = realloc(blocks, room * sizeof *blocks);
    }
    blocks[count++] = (Block){start, bytes, pinned};
    card_add(pinned ? COUNT_PINNED_BYTES : COUNT_DEVICE_BYTES, (long long)bytes);
    card_add(COUNT_ALLOCATIONS, 1);
}

static Block *block_at(const void *address) {
    const char *byte = address;
    for (size_t i = 0; i < count; i++)
        if (blocks[i].start <= byte && byte < blocks[i].start + blocks[i].bytes) return &blocks[i];
    return NULL;
}

static bool is_device_address(const void *address) {
    const char *byte = address;
    return region && region <= byte && byte < region + RESERVED;
}

/* Whether work may touch these bytes: all of them in one piece of memory that is alive, or memory of the host. */
bool card_may_touch(const void *address, size_t bytes) {
    card_lock();
    const Block *block = block_at(address);
    bool inside = block && (const char *)address + bytes <= block->start + block->bytes;
    card_unlock();
    return inside || (!block && !is_device_address(address));
}

static CUresult allocate(CUdeviceptr *address, size_t bytes) {
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (card_allocation_must_fail()) return CUDA_ERROR_OUT_OF_MEMORY;
    card_lock();
    CUresult status = CUDA_SUCCESS;
    size_t taken = (size_t)card_count(COUNT_DEVICE_BYTES);
    if (!region) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        region = mmap(NULL, RESERVED, PROT_NONE, flags, -1, 0);
        if (region == MAP_FAILED) abort();
    }
    if (taken + bytes > card_memory_size() || used_addresses + whole_pages(bytes) > RESERVED) {
        status = CUDA_ERROR_OUT_OF_MEMORY;
    } else {
        char *start = region + used_addresses;
        used_addresses += whole_pages(bytes);
        if (mprotect(start, whole_pages(bytes), PROT_READ | PROT_WRITE)) abort();
        if (!card_is_hollow()) memset(start, NOISE, bytes < NOISY_BYTES ? bytes : NOISY_BYTES);
        note(start, bytes, false);
        *address = (CUdeviceptr)start;
    }
    card_unlock();
    return status;
}

static CUresult release(void *address, bool pinned) {
    CUresult status = CUDA_ERROR_INVALID_VALUE;
    card_lock();
    Block *block = block_at(address);
    if (block && block->start == address && block->pinned == pinned) {
        card_add(pinned ? COUNT_PINNED_BYTES : COUNT_DEVICE_BYTES, -(long long)block->bytes);
        if (pinned) {
            free(address);
        } else {
            madvise(address, whole_pages(block->bytes), MADV_DONTNEED);
            mprotect(address, whole_pages(block->bytes), PROT_NONE);
        }
        *block = blocks[--count];
        status = CUDA_SUCCESS;
    }
    card_unlock();
    return status;
}

/* guide, "Prohibited and Unhandled Operations": cudaMalloc is one of the potentially unsafe calls. */
EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    RETURN_WITHOUT_CONTEXT();
    CUresult refused = card_refuse_unsafe();
    return refused ? refused : allocate(address, bytes);
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
    RETURN_WITHOUT_CONTEXT();
    CUresult refused = card_refuse_unsafe();
    return refused ? refused : release((void *)address, false);
}

/* Page-locking, and freeing it, waits for the device: potentially unsafe as well (900 on an H100). */
EXPORT CUresult cuMemAllocHost_v2(void **address, size_t bytes) {
    RETURN_WITHOUT_CONTEXT();
    CUresult refused = card_refuse_unsafe();
    if (refused) return refused;
    if (card_allocation_must_fail() || posix_memalign(address, PAGE, bytes ? bytes : 1)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    card_lock();
    note(*address, bytes, true);
    card_unlock();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
    (void)flags;
    return cuMemAllocHost_v2(address, bytes);
}

EXPORT CUresult cuMemFreeHost(void *address) {
    RETURN_IF_BROKEN();
    CUresult refused = card_refuse_unsafe();
    return refused ? refused : release(address, true);
}

/* driver, "Stream Ordered Memory Allocator": no unsafe call. In a capture it would become a node of the graph; that is
 * not simulated. */
EXPORT CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, Stream *stream) {
    RETURN_WITHOUT_CONTEXT();
    if (card_capture_status(stream) != NOT_CAPTURING) return CUDA_ERROR_NOT_SUPPORTED;
    return allocate(address, bytes);
}

EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, void *pool, Stream *stream) {
    (void)pool;
    return cuMemAllocAsync(address, bytes, stream);
}

EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, Stream *stream) {
    RETURN_WITHOUT_CONTEXT();
    if (card_capture_status(stream) != NOT_CAPTURING) return CUDA_ERROR_NOT_SUPPORTED;
    return release((void *)address, false);
}

EXPORT CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
    RETURN_WITHOUT_CONTEXT();
    *total = card_memory_size();
    *available = *total - (size_t)card_count(COUNT_DEVICE_BYTES);
    return CUDA_SUCCESS;
}

/* driver, CUpointer_attribute: 2 asks for the kind of memory; 1 = host, 2 = device. */
EXPORT CUresult cuPointerGetAttribute(void *answer, int attribute, CUdeviceptr address) {
    card_lock();
    const Block *block = block_at((void *)address);
    unsigned kind = !block ? 0 : block->pinned ? 1 : 2;
    card_unlock();
    *(unsigned *)answer = attribute == 2 ? kind : 0;
    return kind ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuPointerGetAttributes(unsigned n, int *attributes, void **answers, CUdeviceptr address) {
    for (unsigned i = 0; i < n; i++) cuPointerGetAttribute(answers[i], attributes[i], address);
    return CUDA_SUCCESS;
}
