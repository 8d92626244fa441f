/* Stream capture: what it forbids, to whom, and how it ends. */
#define _GNU_SOURCE
#include "card.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static Capture *captures;
static unsigned long long last_id;
/* driver, cuThreadExchangeStreamCaptureMode: every thread begins in global mode. */
static __thread int thread_mode = CAPTURE_GLOBAL;

static long this_thread(void) { return syscall(SYS_gettid); }

/* driver, "Stream synchronization behavior": the handles of the legacy and the per-thread default stream are small. */
bool card_is_special(const Stream *stream) { return (uintptr_t)stream < 16; }

int card_capture_status(const Stream *stream) {
    if (card_is_special(stream) || !stream->capture) return NOT_CAPTURING;
    return stream->capture->invalid ? CAPTURE_INVALID : CAPTURING;
}

/* guide, "Invalidation": "when an invalid operation is attempted during stream capture, any associated capture graphs
 * are invalidated". */
void card_invalidate(Capture *capture) {
    if (!capture->invalid) card_add(COUNT_CAPTURES_LOST, 1);
    capture->invalid = true;
}

/* driver, cuThreadExchangeStreamCaptureMode: a thread in global mode may make no potentially unsafe call while any
 * thread has a capture in global mode, or while it has one itself that is not relaxed; in thread-local mode only the
 * latter counts; in relaxed mode neither. */
static bool forbids_unsafe(const Capture *capture) {
    if (thread_mode == CAPTURE_RELAXED || capture->mode == CAPTURE_RELAXED) return false;
    if (capture->thread == this_thread()) return true;
    return thread_mode == CAPTURE_GLOBAL && capture->mode == CAPTURE_GLOBAL;
}

/* Called first by every potentially unsafe call: allocations, frees, copies that the host waits for. */
CUresult card_refuse_unsafe(void) {
    bool refused = false;
    card_lock();
    for (Capture *capture = captures; capture; capture = capture->next) {
        if (!forbids_unsafe(capture)) continue;
        card_invalidate(capture);
        refused = true;
    }
    card_unlock();
    if (refused) card_add(COUNT_UNSAFE_CALLS, 1);
    return refused ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

/* guide, "Prohibited and Unhandled Operations": "it is invalid to synchronize or query the execution status of a
 * stream which is being captured". From whatever thread. */
CUresult card_refuse_wait(Stream *stream) {
    CUresult status = CUDA_SUCCESS;
    card_lock();
    if (card_capture_status(stream) != NOT_CAPTURING) {
        card_invalidate(stream->capture);
        card_add(COUNT_UNSAFE_CALLS, 1);
        status = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    card_unlock();
    return status;
}

/* guide, the same section: nor may be waited for "a broader handle which encompasses" such a stream: the context. */
CUresult card_refuse_device_wait(void) {
    CUresult status = CUDA_SUCCESS;
    card_lock();
    for (Capture *capture = captures; capture; capture = capture->next) {
        card_invalidate(capture);
        status = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    card_unlock();
    if (status) card_add(COUNT_UNSAFE_CALLS, 1);
    return status;
}

/* guide, the same section: "when any stream in the same context is being captured that is not created with
 * cudaStreamNonBlocking, any attempted use of the legacy stream" is invalid. */
CUresult card_refuse_legacy_stream(void) {
    CUresult status = CUDA_SUCCESS;
    card_lock();
    for (Capture *capture = captures; capture; capture = capture->next) {
        if (capture->stream->flags & STREAM_NON_BLOCKING) continue;
        card_invalidate(capture);
        status = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    card_unlock();
    return status;
}

EXPORT CUresult cuThreadExchangeStreamCaptureMode(int *mode) {
    int before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

/* driver, cuStreamBeginCapture: the stream must not be capturing, and not be the legacy stream. */
EXPORT CUresult cuStreamBeginCapture_v2(Stream *stream, int mode) {
    RETURN_WITHOUT_CONTEXT();
    if (card_is_special(stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    card_lock();
    CUresult status = stream->capture ? CUDA_ERROR_ILLEGAL_STATE : CUDA_SUCCESS;
    if (status == CUDA_SUCCESS) {
        Capture *capture = calloc(1, sizeof *capture);
        *capture = (Capture){.mode = mode, .thread = this_thread(), .id = ++last_id, .graph = card_new_graph(),
                             .stream = stream, .next = captures};
        stream->capture = captures = capture;
        card_add(COUNT_CAPTURES, 1);
    }
    card_unlock();
    return status;
}

static void remove_capture(Capture *capture) {
    Capture **place = &captures;
    while (*place != capture) place = &(*place)->next;
    *place = capture->next;
    capture->stream->capture = NULL;
    free(capture);
}

/* driver, cuStreamEndCapture: by the thread that began it, unless relaxed (CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
 * "if the capture was invalidated … a NULL graph will be returned". guide: ending it "will take the associated streams
 * out of capture mode, but will also return an error value". */
EXPORT CUresult cuStreamEndCapture(Stream *stream, Graph **graph) {
    if (graph) *graph = NULL;
    RETURN_IF_BROKEN();
    if (card_is_special(stream)) return CUDA_ERROR_ILLEGAL_STATE;
    card_lock();
    Capture *capture = stream->capture;
    CUresult status = CUDA_SUCCESS;
    if (!capture) {
        status = CUDA_ERROR_ILLEGAL_STATE;
    } else if (capture->mode != CAPTURE_RELAXED && capture->thread != this_thread()) {
        card_invalidate(capture);
        status = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    } else {
        if (card_capture_must_fail()) card_invalidate(capture);
        if (capture->invalid) status = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        if (status == CUDA_SUCCESS && graph) *graph = capture->graph;
        else card_release_graph(capture->graph);
        remove_capture(capture);
    }
    card_unlock();
    return status;
}

/* driver, cuStreamIsCapturing: of the legacy stream it is an error while a blocking stream is captured. */
EXPORT CUresult cuStreamIsCapturing(Stream *stream, int *status) {
    RETURN_IF_BROKEN();
    *status = NOT_CAPTURING;
    if (card_is_special(stream)) return card_refuse_legacy_stream();
    card_lock();
    *status = card_capture_status(stream);
    card_unlock();
    return CUDA_SUCCESS;
}

static CUresult info(Stream *stream, int *status, uint64_t *id, Graph **graph, size_t *dependencies) {
    RETURN_IF_BROKEN();
    card_lock();
    *status = card_capture_status(stream);
    if (*status != NOT_CAPTURING && id) *id = stream->capture->id;
    if (*status != NOT_CAPTURING && graph) *graph = stream->capture->graph;
    if (dependencies) *dependencies = 0;
    card_unlock();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetCaptureInfo_v2(
    Stream *stream, int *status, uint64_t *id, Graph **graph, const void **nodes, size_t *dependencies) {
    if (nodes) *nodes = NULL;
    return info(stream, status, id, graph, dependencies);
}

EXPORT CUresult cuStreamGetCaptureInfo_v3(Stream *stream, int *status, uint64_t *id, Graph **graph, const void **nodes,
                                          const void **edges, size_t *dependencies) {
    if (nodes) *nodes = NULL;
    if (edges) *edges = NULL;
    return info(stream, status, id, graph, dependencies);
}
