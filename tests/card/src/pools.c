/* Memory pools: there is one, and it keeps nothing. driver, "Stream Ordered Memory Allocator". */
#include "card.h"

static char pool;

static CUresult give(void **made) {
    *made = &pool;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetDefaultMemPool(void **made, CUdevice device) { return (void)device, give(made); }

EXPORT CUresult cuDeviceGetMemPool(void **made, CUdevice device) { return (void)device, give(made); }

EXPORT CUresult cuDeviceSetMemPool(CUdevice device, void *chosen) { return (void)device, (void)chosen, CUDA_SUCCESS; }

EXPORT CUresult cuMemGetDefaultMemPool(void **made, void *place, int kind) { return (void)place, (void)kind, give(made); }

EXPORT CUresult cuMemGetMemPool(void **made, void *place, int kind) { return (void)place, (void)kind, give(made); }

EXPORT CUresult cuMemPoolCreate(void **made, const void *properties) { return (void)properties, give(made); }

EXPORT CUresult cuMemPoolDestroy(void *chosen) { return (void)chosen, CUDA_SUCCESS; }

EXPORT CUresult cuMemPoolSetAttribute(void *chosen, int attribute, void *value) {
    (void)chosen, (void)attribute, (void)value;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemPoolGetAttribute(void *chosen, int attribute, void *value) {
    (void)chosen, (void)attribute;
    *(uint64_t *)value = 0;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemPoolSetAccess(void *chosen, const void *access, size_t count) {
    (void)chosen, (void)access, (void)count;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemPoolGetAccess(int *flags, void *chosen, void *place) {
    (void)chosen, (void)place;
    *flags = 3; /* read and write */
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemPoolTrimTo(void *chosen, size_t bytes) { return (void)chosen, (void)bytes, CUDA_SUCCESS; }
