/* cuBLAS: every product is one kernel in the stream that the thread set last. */
#include "stub.h"

static __thread Stream *stream;

MAKES_HANDLE(cublasCreate_v2)
SUCCEEDS(cublasDestroy_v2)
SUCCEEDS(cublasSetMathMode)

EXPORT int cublasSetStream_v2(void *handle, Stream *chosen) {
    (void)handle;
    stream = chosen;
    return 0;
}

EXPORT int cublasGetMathMode(void *handle, int *mode) {
    (void)handle;
    *mode = 0;
    return 0;
}

EXPORT const char *cublasGetStatusName(int status) { return status ? "CUBLAS_STATUS_EXECUTION_FAILED" : "success"; }

EXPORT const char *cublasGetStatusString(int status) { return cublasGetStatusName(status); }

WORKS_IN(stream, cublasDgeam)
WORKS_IN(stream, cublasDgemmBatched)
WORKS_IN(stream, cublasDgemmStridedBatched)
WORKS_IN(stream, cublasDgemm_v2)
WORKS_IN(stream, cublasDgetrfBatched)
WORKS_IN(stream, cublasDgetriBatched)
WORKS_IN(stream, cublasGemmBatchedEx)
WORKS_IN(stream, cublasGemmEx)
WORKS_IN(stream, cublasGemmStridedBatchedEx)
WORKS_IN(stream, cublasScopy_v2)
WORKS_IN(stream, cublasSgeam)
WORKS_IN(stream, cublasSgemmBatched)
WORKS_IN(stream, cublasSgemmStridedBatched)
WORKS_IN(stream, cublasSgemm_v2)
WORKS_IN(stream, cublasSgetrfBatched)
WORKS_IN(stream, cublasSgetriBatched)
WORKS_IN(stream, cublasSscal_v2)
