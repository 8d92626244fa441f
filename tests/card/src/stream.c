/* Streams and events. driver, "Stream Management" and "Event Management". */
#define _GNU_SOURCE
#include "card.h"

#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

EXPORT CUresult cuStreamCreateWithPriority(Stream **stream, unsigned flags, int priority) {
    RETURN_WITHOUT_CONTEXT();
    *stream = calloc(1, sizeof **stream);
    (*stream)->device = card_current_device();
    (*stream)->flags = flags;
    (*stream)->priority = priority;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamCreate(Stream **stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }

EXPORT CUresult cuStreamDestroy_v2(Stream *stream) {
    RETURN_IF_BROKEN();
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    free(stream);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetPriority(Stream *stream, int *priority) {
    *priority = card_is_special(stream) ? 0 : stream->priority;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetFlags(Stream *stream, unsigned *flags) {
    *flags = card_is_special(stream) ? 0 : stream->flags;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamGetDevice(Stream *stream, CUdevice *device) {
    *device = card_is_special(stream) ? card_current_device() : stream->device;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(void **context);
CUresult cuDevicePrimaryCtxRetain(void **context, CUdevice device);

EXPORT CUresult cuStreamGetCtx(Stream *stream, void **context) {
    return cuDevicePrimaryCtxRetain(context, card_is_special(stream) ? card_current_device() : stream->device);
}

EXPORT CUresult cuStreamGetCtx_v2(Stream *stream, void **context, void **green) {
    if (green) *green = NULL;
    return cuStreamGetCtx(stream, context);
}

EXPORT CUresult cuStreamSynchronize(Stream *stream) {
    RETURN_WITHOUT_CONTEXT();
    card_add(COUNT_HOST_WAITS, 1);
    return card_refuse_wait(stream);
}

EXPORT CUresult cuStreamQuery(Stream *stream) {
    RETURN_WITHOUT_CONTEXT();
    return card_refuse_wait(stream);
}

/* driver, cuStreamWaitEvent. guide, "Cross-stream Dependencies and Events": a capturing stream may wait for events of
 * its own capture only (CUDA_ERROR_STREAM_CAPTURE_ISOLATION); captures that fork into a second stream are not
 * simulated. An event that was never recorded is no wait. */
EXPORT CUresult cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
    (void)flags;
    RETURN_WITHOUT_CONTEXT();
    if (!event->recorded) return CUDA_SUCCESS;
    CUresult status = CUDA_SUCCESS;
    card_lock();
    int capturing = card_capture_status(stream);
    if (capturing == CAPTURE_INVALID) {
        status = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    } else if (capturing == CAPTURING && event->capture_id != stream->capture->id) {
        card_invalidate(stream->capture);
        status = CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    } else if (capturing == NOT_CAPTURING && event->capture_id) {
        status = CUDA_ERROR_NOT_SUPPORTED;
    }
    card_unlock();
    return status;
}

EXPORT CUresult cuEventCreate(Event **event, unsigned flags) {
    RETURN_WITHOUT_CONTEXT();
    *event = calloc(1, sizeof **event);
    (*event)->device = card_current_device();
    (*event)->flags = flags;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventDestroy_v2(Event *event) {
    free(event);
    return card_failure();
}

/* guide: an event that is recorded in a capturing stream "represents a set of nodes in a capture graph"; "Stream and
 * Event Behavior": it "will fail if the input event and input stream are associated to different devices". */
EXPORT CUresult cuEventRecord(Event *event, Stream *stream) {
    RETURN_WITHOUT_CONTEXT();
    if (!card_is_special(stream) && stream->device != event->device) return CUDA_ERROR_INVALID_HANDLE;
    CUresult status = CUDA_SUCCESS;
    card_lock();
    int capturing = card_capture_status(stream);
    if (capturing == CAPTURE_INVALID) {
        status = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    } else {
        event->capture_id = capturing == CAPTURING ? stream->capture->id : 0;
        event->recorded = true;
        event->milliseconds = now();
    }
    card_unlock();
    return status;
}

EXPORT CUresult cuEventRecordWithFlags(Event *event, Stream *stream, unsigned flags) {
    (void)flags;
    return cuEventRecord(event, stream);
}

/* driver, CUDA_ERROR_CAPTURED_EVENT: "the operation is not permitted on an event which was last recorded in a capturing
 * stream". */
static CUresult wait_for(const Event *event) {
    RETURN_WITHOUT_CONTEXT();
    return event->capture_id ? CUDA_ERROR_CAPTURED_EVENT : CUDA_SUCCESS;
}

EXPORT CUresult cuEventSynchronize(Event *event) {
    card_add(COUNT_HOST_WAITS, 1);
    return wait_for(event);
}

EXPORT CUresult cuEventQuery(Event *event) { return wait_for(event); }

/* driver, cuEventElapsedTime: CUDA_ERROR_INVALID_HANDLE unless both were recorded and neither was made without timing. */
EXPORT CUresult cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end) {
    RETURN_WITHOUT_CONTEXT();
    bool timed = !((start->flags | end->flags) & EVENT_DISABLE_TIMING);
    if (!timed || !start->recorded || !end->recorded) return CUDA_ERROR_INVALID_HANDLE;
    *milliseconds = (float)(end->milliseconds - start->milliseconds);
    return CUDA_SUCCESS;
}
