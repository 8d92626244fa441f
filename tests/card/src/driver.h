/* The simulated driver's functions, for the libraries over it. */
#ifndef DRIVER_H
#define DRIVER_H

#include "card.h"

CUresult cuGetErrorName(CUresult status, const char **name);
CUresult cuDriverGetVersion(int *version);
CUresult cuDeviceGetCount(int *count);
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device);
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device);
CUresult cuDeviceGetName(char *name, int room, CUdevice device);
CUresult cuDevicePrimaryCtxRetain(void **context, CUdevice device);
CUresult cuCtxGetCurrent(void **context);
CUresult cuCtxSetCurrent(void *context);
CUresult cuCtxSynchronize(void);
CUresult cuCtxGetDevice(CUdevice *device);

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes);
CUresult cuMemFree_v2(CUdeviceptr address);
CUresult cuMemAllocHost_v2(void **address, size_t bytes);
CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned flags);
CUresult cuMemFreeHost(void *address);
CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, void *pool, Stream *stream);
CUresult cuMemFreeAsync(CUdeviceptr address, Stream *stream);
CUresult cuMemGetInfo_v2(size_t *available, size_t *total);
CUresult cuPointerGetAttribute(void *answer, int attribute, CUdeviceptr address);
CUresult cuMemcpy(CUdeviceptr target, CUdeviceptr source, size_t bytes);
CUresult cuMemcpyAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, Stream *stream);
CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t bytes, Stream *stream);
CUresult cuMemPoolCreate(void **made, const void *properties);
CUresult cuMemPoolGetAttribute(void *pool, int attribute, void *value);
CUresult cuMemPoolSetAttribute(void *pool, int attribute, void *value);
CUresult cuMemPoolTrimTo(void *pool, size_t bytes);

CUresult cuStreamCreateWithPriority(Stream **stream, unsigned flags, int priority);
CUresult cuStreamDestroy_v2(Stream *stream);
CUresult cuStreamSynchronize(Stream *stream);
CUresult cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags);
CUresult cuStreamBeginCapture_v2(Stream *stream, int mode);
CUresult cuStreamEndCapture(Stream *stream, Graph **graph);
CUresult cuStreamIsCapturing(Stream *stream, int *status);
CUresult cuLaunchHostFunc(Stream *stream, void (*call)(void *), void *argument);
CUresult cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, unsigned long long flags);
CUresult cuGraphLaunch(Graph *executable, Stream *stream);
CUresult cuGraphDestroy(Graph *graph);
CUresult cuGraphExecDestroy(Graph *executable);
CUresult cuEventCreate(Event **event, unsigned flags);
CUresult cuEventDestroy_v2(Event *event);
CUresult cuEventRecord(Event *event, Stream *stream);
CUresult cuEventSynchronize(Event *event);
CUresult cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end);

CUresult card_launch_kernel(Stream *stream, const char *name);

#endif
