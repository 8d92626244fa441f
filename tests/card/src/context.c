/* The driver, its devices and their primary contexts. They share one memory. driver, "Primary Context Management". */
#define _GNU_SOURCE
#include "card.h"

#include <stdio.h>
#include <string.h>

typedef void *CUcontext;

static char primaries[MOST_DEVICES]; /* their addresses are the contexts */
static __thread CUcontext current; /* driver, "Context Management": a context is current to a thread */

/* driver, CUdevice_attribute. Those that are not here are 0. */
static const struct {
    int attribute, value;
} attributes[] = {
    {1, 1024},     /* threads of a block */
    {8, 49152},    /* shared memory of a block */
    {10, 32},      /* lanes of a warp */
    {16, 132},     /* multiprocessors */
    {31, 1},       /* kernels run side by side */
    {39, 2048},    /* threads of a multiprocessor */
    {41, 1},       /* unified addressing */
    {75, 9},       /* compute capability, major */
    {76, 0},       /* compute capability, minor */
    {81, 233472},  /* shared memory of a multiprocessor */
    {82, 65536},   /* registers of a multiprocessor */
    {97, 232448},  /* shared memory of a block that asks for it */
    {115, 1},      /* memory pools */
};

bool card_has_context(void) { return current != NULL; }

static int device_of(CUcontext context) { return context ? (int)((char *)context - primaries) : 0; }

/* The first where a thread has chosen none. */
int card_current_device(void) { return device_of(current); }

EXPORT CUresult cuInit(unsigned flags) { return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; }

EXPORT CUresult cuDriverGetVersion(int *version) {
    *version = 13000;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int *count) {
    *count = card_devices();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    if (ordinal < 0 || ordinal >= card_devices()) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetName(char *name, int room, CUdevice device) {
    (void)device;
    snprintf(name, (size_t)room, "Simulated card");
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetUuid_v2(unsigned char *uuid, CUdevice device) {
    memset(uuid, 1 + device, 16);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    (void)device;
    *bytes = card_memory_size();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    (void)device;
    *value = 0;
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if (attributes[i].attribute == attribute) *value = attributes[i].value;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    RETURN_IF_BROKEN();
    *context = &primaries[device];
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    (void)device;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
    RETURN_IF_BROKEN();
    current = context;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = current;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) { return cuCtxSetCurrent(context); }

EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *context) {
    if (context) *context = current;
    current = NULL;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetDevice(CUdevice *device) {
    RETURN_WITHOUT_CONTEXT();
    *device = card_current_device();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext context) {
    *device = device_of(context ? context : current);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetId(CUcontext context, unsigned long long *id) {
    *id = 1 + (unsigned)device_of(context ? context : current);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return CUDA_SUCCESS;
}

/* driver, cuCtxSynchronize; it waits for all streams. */
EXPORT CUresult cuCtxSynchronize(void) {
    RETURN_WITHOUT_CONTEXT();
    card_add(COUNT_HOST_WAITS, 1);
    return card_refuse_device_wait();
}
