/* How libraries find the driver's functions. driver, "Driver Entry Point Access". */
#define _GNU_SOURCE
#include "card.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* Functions whose arguments changed: from which CUDA version on a caller gets which. */
static const struct {
    const char *name;
    int since;
    const char *symbol;
} changed[] = {
    {"cuStreamGetCaptureInfo", 12030, "cuStreamGetCaptureInfo_v3"},
    {"cuStreamGetCaptureInfo", 0, "cuStreamGetCaptureInfo_v2"},
    {"cuStreamGetCtx", 12050, "cuStreamGetCtx_v2"},
    {"cuStreamGetCtx", 0, "cuStreamGetCtx"},
    {"cuCtxGetDevice", 13000, "cuCtxGetDevice_v2"},
    {"cuCtxGetDevice", 0, "cuCtxGetDevice"},
};

EXPORT CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    (void)flags;
    Dl_info here;
    dladdr((void *)cuGetProcAddress_v2, &here);
    void *self = dlopen(here.dli_fname, RTLD_NOW);
    char symbol[256];
    *function = NULL;
    for (size_t i = 0; i < sizeof changed / sizeof *changed && !*function; i++)
        if (!strcmp(changed[i].name, name) && version >= changed[i].since) *function = dlsym(self, changed[i].symbol);
    for (int newest = 2; newest >= 1 && !*function; newest--) {
        snprintf(symbol, sizeof symbol, newest == 2 ? "%s_v2" : "%s", name);
        *function = dlsym(self, symbol);
    }
    if (status) *status = *function ? 0 : 1;
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

/* Asked for by libraries that link against the driver; kernels are not run. */
EXPORT CUresult cuTensorMapEncodeTiled(void) { return CUDA_SUCCESS; }
