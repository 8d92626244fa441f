/* CUDA's runtime library over the simulated driver: what ONNX Runtime 1.31 calls of it. CUDA Runtime API reference.
 * Statuses have the driver's numbers; the last error of a thread is kept (section "Error Handling"). */
#define _GNU_SOURCE
#include "card.h"
#include "driver.h"

static __thread int last_error;

static int kept(int status) {
    if (status) last_error = status;
    return status;
}

/* "Interactions with the CUDA Driver API": the runtime makes the primary context current when it is first used. */
static void enter(void) {
    void *context = NULL;
    cuCtxGetCurrent(&context);
    if (context) return;
    cuDevicePrimaryCtxRetain(&context, 0);
    cuCtxSetCurrent(context);
}

EXPORT int cudaGetLastError(void) {
    int error = last_error;
    last_error = 0;
    return error;
}

EXPORT int cudaPeekAtLastError(void) { return last_error; }

EXPORT const char *cudaGetErrorName(int error) {
    const char *name = NULL;
    cuGetErrorName(error, &name);
    return name ? name : "unknown error";
}

EXPORT const char *cudaGetErrorString(int error) {
    if (error == CUDA_ERROR_OUT_OF_MEMORY) return "out of memory";
    if (error == CUDA_ERROR_ILLEGAL_ADDRESS) return "an illegal memory access was encountered";
    if (error == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) return "operation not permitted when stream is capturing";
    if (error == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED) return "operation failed due to a previous error during capture";
    return cudaGetErrorName(error);
}

EXPORT int cudaDriverGetVersion(int *version) { return cuDriverGetVersion(version); }

EXPORT int cudaRuntimeGetVersion(int *version) { return cuDriverGetVersion(version); }

EXPORT int cudaGetDeviceCount(int *count) { return cuDeviceGetCount(count); }

EXPORT int cudaGetDevice(int *device) {
    enter();
    return kept(cuCtxGetDevice(device));
}

EXPORT int cudaSetDevice(int device) {
    int count = 0;
    void *context = NULL;
    cuDeviceGetCount(&count);
    if (device < 0 || device >= count) return kept(CUDA_ERROR_INVALID_DEVICE);
    int status = cuDevicePrimaryCtxRetain(&context, device);
    return kept(status ? status : cuCtxSetCurrent(context));
}

EXPORT int cudaDeviceSynchronize(void) {
    enter();
    return kept(cuCtxSynchronize());
}

EXPORT int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    return cuDeviceGetAttribute(value, attribute, device);
}

/* Memory */

EXPORT int cudaMalloc(CUdeviceptr *address, size_t bytes) {
    enter();
    return kept(cuMemAlloc_v2(address, bytes));
}

EXPORT int cudaFree(CUdeviceptr address) {
    enter();
    return address ? kept(cuMemFree_v2(address)) : 0;
}

EXPORT int cudaMallocHost(void **address, size_t bytes) {
    enter();
    return kept(cuMemAllocHost_v2(address, bytes));
}

EXPORT int cudaHostAlloc(void **address, size_t bytes, unsigned flags) {
    enter();
    return kept(cuMemHostAlloc(address, bytes, flags));
}

EXPORT int cudaFreeHost(void *address) {
    enter();
    return kept(cuMemFreeHost(address));
}

EXPORT int cudaMallocFromPoolAsync(CUdeviceptr *address, size_t bytes, void *pool, Stream *stream) {
    enter();
    return kept(cuMemAllocFromPoolAsync(address, bytes, pool, stream));
}

EXPORT int cudaFreeAsync(CUdeviceptr address, Stream *stream) {
    enter();
    return kept(cuMemFreeAsync(address, stream));
}

EXPORT int cudaMemGetInfo(size_t *available, size_t *total) {
    enter();
    return kept(cuMemGetInfo_v2(available, total));
}

/* cudaMemoryType: 1 = host, 2 = device. */
typedef struct {
    int type, device;
    void *device_pointer, *host_pointer;
} PointerAttributes;

EXPORT int cudaPointerGetAttributes(PointerAttributes *found, const void *address) {
    unsigned kind = 0;
    cuPointerGetAttribute(&kind, 2, (CUdeviceptr)address);
    *found = (PointerAttributes){.type = (int)kind};
    if (kind) found->device_pointer = (void *)address;
    return 0;
}

EXPORT int cudaMemcpy(CUdeviceptr target, CUdeviceptr source, size_t bytes, int kind) {
    (void)kind;
    enter();
    return kept(cuMemcpy(target, source, bytes));
}

EXPORT int cudaMemcpyAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, int kind, Stream *stream) {
    (void)kind;
    enter();
    return kept(cuMemcpyAsync(target, source, bytes, stream));
}

EXPORT int cudaMemcpy2DAsync(CUdeviceptr target, size_t target_pitch, CUdeviceptr source, size_t source_pitch,
                             size_t width, size_t height, int kind, Stream *stream) {
    int status = 0;
    for (size_t row = 0; row < height && !status; row++)
        status = cudaMemcpyAsync(target + row * target_pitch, source + row * source_pitch, width, kind, stream);
    return status;
}

EXPORT int cudaMemsetAsync(CUdeviceptr target, int value, size_t bytes, Stream *stream) {
    enter();
    return kept(cuMemsetD8Async(target, (unsigned char)value, bytes, stream));
}

EXPORT int cudaMemset(CUdeviceptr target, int value, size_t bytes) { return cudaMemsetAsync(target, value, bytes, NULL); }

/* Streams, events, graphs */

EXPORT int cudaStreamCreateWithFlags(Stream **stream, unsigned flags) {
    enter();
    return kept(cuStreamCreateWithPriority(stream, flags, 0));
}

EXPORT int cudaStreamCreate(Stream **stream) { return cudaStreamCreateWithFlags(stream, 0); }

EXPORT int cudaStreamDestroy(Stream *stream) { return kept(cuStreamDestroy_v2(stream)); }

EXPORT int cudaStreamSynchronize(Stream *stream) {
    enter();
    return kept(cuStreamSynchronize(stream));
}

EXPORT int cudaStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
    enter();
    return kept(cuStreamWaitEvent(stream, event, flags));
}

EXPORT int cudaStreamBeginCapture(Stream *stream, int mode) {
    enter();
    return kept(cuStreamBeginCapture_v2(stream, mode));
}

EXPORT int cudaStreamEndCapture(Stream *stream, Graph **graph) { return kept(cuStreamEndCapture(stream, graph)); }

EXPORT int cudaStreamIsCapturing(Stream *stream, int *status) { return kept(cuStreamIsCapturing(stream, status)); }

EXPORT int cudaLaunchHostFunc(Stream *stream, void (*call)(void *), void *argument) {
    enter();
    return kept(cuLaunchHostFunc(stream, call, argument));
}

EXPORT int cudaGraphInstantiate(Graph **executable, Graph *graph, unsigned long long flags) {
    enter();
    return kept(cuGraphInstantiateWithFlags(executable, graph, flags));
}

EXPORT int cudaGraphLaunch(Graph *executable, Stream *stream) {
    enter();
    return kept(cuGraphLaunch(executable, stream));
}

EXPORT int cudaGraphDestroy(Graph *graph) { return kept(cuGraphDestroy(graph)); }

EXPORT int cudaGraphExecDestroy(Graph *executable) { return kept(cuGraphExecDestroy(executable)); }

EXPORT int cudaEventCreateWithFlags(Event **event, unsigned flags) {
    enter();
    return kept(cuEventCreate(event, flags));
}

EXPORT int cudaEventCreate(Event **event) { return cudaEventCreateWithFlags(event, 0); }

EXPORT int cudaEventDestroy(Event *event) { return kept(cuEventDestroy_v2(event)); }

EXPORT int cudaEventRecord(Event *event, Stream *stream) {
    enter();
    return kept(cuEventRecord(event, stream));
}

EXPORT int cudaEventRecordWithFlags(Event *event, Stream *stream, unsigned flags) {
    (void)flags;
    return cudaEventRecord(event, stream);
}

EXPORT int cudaEventSynchronize(Event *event) {
    enter();
    return kept(cuEventSynchronize(event));
}

EXPORT int cudaEventElapsedTime(float *milliseconds, Event *start, Event *end) {
    enter();
    return kept(cuEventElapsedTime_v2(milliseconds, start, end));
}

/* Pools, symbols, entry points: asked for and not needed */

EXPORT int cudaMemPoolCreate(void **made, const void *properties) { return cuMemPoolCreate(made, properties); }

EXPORT int cudaMemPoolDestroy(void *pool) { return (void)pool, 0; }

EXPORT int cudaMemPoolGetAttribute(void *pool, int attribute, void *value) {
    return cuMemPoolGetAttribute(pool, attribute, value);
}

EXPORT int cudaMemPoolSetAttribute(void *pool, int attribute, void *value) {
    return cuMemPoolSetAttribute(pool, attribute, value);
}

EXPORT int cudaMemPoolTrimTo(void *pool, size_t bytes) { return cuMemPoolTrimTo(pool, bytes); }

EXPORT int cudaMemcpyFromSymbol(void) { return 0; }

EXPORT int cudaGetDriverEntryPointByVersion(
    const char *name, void **function, unsigned version, unsigned long long flags, int *found) {
    (void)name, (void)version, (void)flags;
    *function = NULL;
    if (found) *found = 1; /* cudaDriverEntryPointSymbolNotFound */
    return CUDA_ERROR_NOT_FOUND;
}
