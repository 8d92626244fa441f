/* Kernels of the runtime library: registered, configured, launched; counted by the driver and never run. */
#define _GNU_SOURCE
#include "card.h"
#include "driver.h"

#include <string.h>

typedef struct {
    unsigned x, y, z;
} Size3;

/* cudaLaunchConfig_t. */
typedef struct {
    Size3 grid, block;
    size_t shared_bytes;
    Stream *stream;
    void *attributes;
    unsigned attribute_count;
} LaunchConfig;

/* What `kernel<<<grid, block, bytes, stream>>>` puts down before it calls the kernel's host side. */
static __thread LaunchConfig pushed;

EXPORT unsigned __cudaPushCallConfiguration(Size3 grid, Size3 block, size_t shared_bytes, Stream *stream) {
    pushed = (LaunchConfig){.grid = grid, .block = block, .shared_bytes = shared_bytes, .stream = stream};
    return 0;
}

EXPORT int __cudaPopCallConfiguration(Size3 *grid, Size3 *block, size_t *shared_bytes, Stream **stream) {
    *grid = pushed.grid;
    *block = pushed.block;
    *shared_bytes = pushed.shared_bytes;
    *stream = pushed.stream;
    return 0;
}

EXPORT void **__cudaRegisterFatBinary(void *binary) {
    static void *handle;
    (void)binary;
    return &handle;
}

EXPORT void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }

EXPORT void __cudaUnregisterFatBinary(void **handle) { (void)handle; }

EXPORT void __cudaRegisterFunction(void **handle, const void *function, char *device_function, const char *name) {
    (void)handle, (void)device_function;
    card_name_function(function, name);
}

EXPORT void __cudaRegisterVar(void) {}

EXPORT int __cudaGetKernel(const void **kernel, const void *function) {
    *kernel = function;
    return 0;
}

static int launch(const void *function, Stream *stream) {
    return card_launch_kernel(stream, card_function_name(function));
}

EXPORT int cudaLaunchKernel(
    const void *function, Size3 grid, Size3 block, void **arguments, size_t shared_bytes, Stream *stream) {
    (void)grid, (void)block, (void)arguments, (void)shared_bytes;
    return launch(function, stream);
}

EXPORT int __cudaLaunchKernel(
    const void *function, Size3 grid, Size3 block, void **arguments, size_t shared_bytes, Stream *stream) {
    return cudaLaunchKernel(function, grid, block, arguments, shared_bytes, stream);
}

EXPORT int cudaLaunchCooperativeKernel(
    const void *function, Size3 grid, Size3 block, void **arguments, size_t shared_bytes, Stream *stream) {
    return cudaLaunchKernel(function, grid, block, arguments, shared_bytes, stream);
}

EXPORT int cudaLaunchKernelExC(const LaunchConfig *config, const void *function, void **arguments) {
    (void)arguments;
    return launch(function, config->stream);
}

/* cudaFuncAttributes, as far as it is read. */
typedef struct {
    size_t shared_bytes, constant_bytes, local_bytes;
    int block_threads, registers, ptx_version, binary_version;
} FunctionAttributes;

EXPORT int cudaFuncGetAttributes(FunctionAttributes *found, const void *function) {
    (void)function;
    *found = (FunctionAttributes){.block_threads = 1024, .registers = 32, .ptx_version = 90, .binary_version = 90};
    return 0;
}

EXPORT int cudaFuncSetAttribute(void) { return 0; }

EXPORT int cudaKernelSetAttributeForDevice(void) { return 0; }

EXPORT int cudaLibraryGetKernel(void) { return 0; }

EXPORT int cudaLibraryLoadData(void) { return 0; }

EXPORT int cudaLibraryUnload(void) { return 0; }

EXPORT int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int *blocks, const void *function, int threads, size_t shared_bytes, unsigned flags) {
    (void)function, (void)threads, (void)shared_bytes, (void)flags;
    *blocks = 2;
    return 0;
}
