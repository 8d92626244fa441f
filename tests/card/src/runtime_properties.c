/* What the runtime library tells of the card. CUDA Runtime API 13, cudaDeviceProp: its fields in their order. */
#define _GNU_SOURCE
#include "card.h"
#include "driver.h"

#include <string.h>

typedef struct {
    char name[256];
    char uuid[16], luid[8];
    unsigned luid_mask;
    size_t memory_bytes, shared_bytes_per_block;
    int registers_per_block, warp_size;
    size_t memory_pitch;
    int threads_per_block, block_size[3], grid_size[3];
    size_t constant_bytes;
    int major, minor;
    size_t texture_alignment[2];
    int multiprocessors;
    int integrated_to_surfaces[41]; /* integrated … maxSurfaceCubemapLayered */
    size_t surface_alignment;
    int concurrent_kernels;
    int ecc_to_copy_engines[6]; /* ECCEnabled … asyncEngineCount */
    int unified_addressing, bus_bits, l2_bytes, persisting_l2_bytes, threads_per_multiprocessor;
    int priorities, caches[2];
    size_t shared_bytes_per_multiprocessor;
    int registers_per_multiprocessor;
    int managed_to_host_pointer[8]; /* managedMemory … canUseHostPointerForRegisteredMem */
    int cooperative_launch;
    size_t shared_bytes_per_block_opt_in;
    /* More follows; nothing of it is read. */
} DeviceProperties;

EXPORT int cudaGetDeviceProperties(DeviceProperties *found, int device) {
    memset(found, 0, sizeof *found);
    cuDeviceGetName(found->name, sizeof found->name, device);
    cuDeviceTotalMem_v2(&found->memory_bytes, device);
    found->shared_bytes_per_block = 49152;
    found->registers_per_block = found->registers_per_multiprocessor = 65536;
    found->warp_size = 32;
    found->threads_per_block = found->block_size[0] = found->block_size[1] = 1024;
    found->block_size[2] = 64;
    found->grid_size[0] = 2147483647;
    found->grid_size[1] = found->grid_size[2] = 65535;
    found->major = 9;
    found->multiprocessors = 132;
    found->concurrent_kernels = found->unified_addressing = found->cooperative_launch = 1;
    found->l2_bytes = 50 << 20;
    found->threads_per_multiprocessor = 2048;
    found->shared_bytes_per_multiprocessor = 233472;
    found->shared_bytes_per_block_opt_in = 232448;
    return 0;
}
