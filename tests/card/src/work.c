/* Work in streams: done when it is enqueued, or noted where the stream is being captured. */
#define _GNU_SOURCE
#include "card.h"

#include <string.h>

/* driver, CUDA_ERROR_ILLEGAL_ADDRESS: work that touches what is not allocated ends the device for good. */
CUresult card_run(const Node *node) {
    bool moves = node->kind == NODE_COPY || node->kind == NODE_FILL;
    bool allowed = !moves || card_may_touch(node->target, node->bytes);
    if (node->kind == NODE_COPY) allowed = allowed && card_may_touch(node->source, node->bytes);
    if (!allowed) {
        card_fail(CUDA_ERROR_ILLEGAL_ADDRESS);
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    }
    if (node->kind == NODE_HOST_CALL) node->call(node->argument);
    if (card_is_hollow()) return CUDA_SUCCESS;
    if (node->kind == NODE_COPY) memmove(node->target, node->source, node->bytes);
    if (node->kind == NODE_FILL) memset(node->target, node->value, node->bytes);
    return CUDA_SUCCESS;
}

/* guide, "Invalidation": "further use of any streams being captured … is invalid and will return an error, until
 * stream capture is ended". */
CUresult card_enqueue(Stream *stream, Node node) {
    if (node.kind == NODE_KERNEL) card_add(COUNT_KERNELS, 1);
    if (node.kind != NODE_HOST_CALL) card_note(node.kind == NODE_COPY ? "copy" : node.kind == NODE_FILL ? "fill" : node.name);
    if (card_is_special(stream)) {
        CUresult refused = card_refuse_legacy_stream();
        return refused ? refused : card_run(&node);
    }
    card_lock();
    if (card_capture_status(stream) == CAPTURING && card_captured_work_must_fail()) card_invalidate(stream->capture);
    int capturing = card_capture_status(stream);
    if (capturing == CAPTURING) card_append(stream->capture->graph, &node);
    card_unlock();
    if (capturing == CAPTURE_INVALID) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    return capturing == CAPTURING ? CUDA_SUCCESS : card_run(&node);
}

EXPORT CUresult cuMemcpyAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, Stream *stream) {
    RETURN_WITHOUT_CONTEXT();
    return card_enqueue(
        stream, (Node){.kind = NODE_COPY, .target = (void *)target, .source = (const void *)source, .bytes = bytes});
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr target, CUdeviceptr source, size_t bytes, Stream *stream) {
    return cuMemcpyAsync(target, source, bytes, stream);
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void *source, size_t bytes, Stream *stream) {
    return cuMemcpyAsync(target, (CUdeviceptr)source, bytes, stream);
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void *target, CUdeviceptr source, size_t bytes, Stream *stream) {
    return cuMemcpyAsync((CUdeviceptr)target, source, bytes, stream);
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t bytes, Stream *stream) {
    RETURN_WITHOUT_CONTEXT();
    return card_enqueue(stream, (Node){.kind = NODE_FILL, .target = (void *)target, .bytes = bytes, .value = value});
}

/* guide, "Prohibited and Unhandled Operations": synchronous copies "enqueue work in the legacy stream and synchronize
 * it before returning": potentially unsafe. */
EXPORT CUresult cuMemcpy(CUdeviceptr target, CUdeviceptr source, size_t bytes) {
    RETURN_WITHOUT_CONTEXT();
    CUresult refused = card_refuse_unsafe();
    if (refused) return refused;
    card_add(COUNT_HOST_WAITS, 1);
    return cuMemcpyAsync(target, source, bytes, NULL);
}

/* guide, "Stream and Event Behavior": a launch "will fail if it is issued to a stream that is not associated to the
 * current device"; a copy will not. */
static CUresult refuse_other_device(const Stream *stream) {
    bool own = card_is_special(stream) || stream->device == card_current_device();
    return own ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

EXPORT CUresult cuLaunchHostFunc(Stream *stream, void (*call)(void *), void *argument) {
    RETURN_WITHOUT_CONTEXT();
    CUresult refused = refuse_other_device(stream);
    if (refused) return refused;
    return card_enqueue(stream, (Node){.kind = NODE_HOST_CALL, .call = call, .argument = argument});
}

/* A kernel of the runtime library: counted, not run. */
EXPORT CUresult card_launch_kernel(Stream *stream, const char *name) {
    RETURN_WITHOUT_CONTEXT();
    CUresult refused = refuse_other_device(stream);
    if (refused) return refused;
    return card_enqueue(stream, (Node){.kind = NODE_KERNEL, .name = name});
}
