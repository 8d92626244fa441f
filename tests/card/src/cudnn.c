/* cuDNN 9: its backend interface, as far as ONNX Runtime asks for plans of convolutions, and the older functions. An
 * execution is one kernel. Workspaces are not simulated: a plan says that it needs none. */
#include "stub.h"

#include <stdlib.h>
#include <string.h>

/* cudnnBackendAttributeType_t and cudnnBackendAttributeName_t. */
enum { TYPE_INT64 = 3, TYPE_KNOB = 9, TYPE_DESCRIPTOR = 15, TYPE_BEHAVIOR_NOTE = 23 };
enum { ENGINE_RESULTS = 202, ENGINE_KNOB_CHOICES = 302 };

static __thread Stream *stream;

EXPORT size_t cudnnGetVersion(void) { return 91400; }

EXPORT size_t cudnnGetCudartVersion(void) { return 13000; }

EXPORT const char *cudnnGetErrorString(int status) { return status ? "CUDNN_STATUS_EXECUTION_FAILED" : "success"; }

EXPORT void cudnnGetLastErrorString(char *text, size_t room) { strncpy(text, "none", room); }

MAKES_HANDLE(cudnnCreate)
SUCCEEDS(cudnnDestroy)

EXPORT int cudnnSetStream(void *handle, Stream *chosen) {
    (void)handle;
    stream = chosen;
    return 0;
}

EXPORT int cudnnGetStream(void *handle, Stream **chosen) {
    (void)handle;
    *chosen = stream;
    return 0;
}

EXPORT int cudnnBackendCreateDescriptor(int kind, void **descriptor) {
    (void)kind;
    *descriptor = calloc(1, 64);
    return 0;
}

EXPORT int cudnnBackendDestroyDescriptor(void *descriptor) {
    free(descriptor);
    return 0;
}

SUCCEEDS(cudnnBackendInitialize)
SUCCEEDS(cudnnBackendFinalize)
SUCCEEDS(cudnnBackendSetAttribute)
WORKS_IN(stream, cudnnBackendExecute)

/* One engine without knobs, without notes, without a workspace. */
EXPORT int cudnnBackendGetAttribute(
    void *descriptor, int attribute, int type, int64_t room, int64_t *count, void *values) {
    (void)descriptor;
    int64_t found = 0;
    if (attribute == ENGINE_RESULTS || type == TYPE_INT64) found = 1;
    else if (type == TYPE_DESCRIPTOR && attribute != ENGINE_KNOB_CHOICES) found = room > 0;
    else if (type == TYPE_KNOB || type == TYPE_BEHAVIOR_NOTE) found = 1;
    if (count) *count = found;
    if (found && values && room > 0 && type == TYPE_INT64) *(int64_t *)values = 0;
    if (found && values && room > 0 && (type == TYPE_KNOB || type == TYPE_BEHAVIOR_NOTE)) *(int *)values = 0;
    return 0;
}

WORKS_IN(stream, cudnnActivationForward)
WORKS_IN(stream, cudnnAddTensor)
WORKS_IN(stream, cudnnBatchNormalizationForwardInference)
WORKS_IN(stream, cudnnBatchNormalizationForwardTraining)
WORKS_IN(stream, cudnnConvolutionBiasActivationForward)
WORKS_IN(stream, cudnnConvolutionForward)
WORKS_IN(stream, cudnnLRNCrossChannelForward)
WORKS_IN(stream, cudnnPoolingForward)
WORKS_IN(stream, cudnnRNNForward)
WORKS_IN(stream, cudnnReduceTensor)
WORKS_IN(stream, cudnnSoftmaxForward)

MAKES_HANDLE(cudnnCreateActivationDescriptor)
MAKES_HANDLE(cudnnCreateConvolutionDescriptor)
MAKES_HANDLE(cudnnCreateDropoutDescriptor)
MAKES_HANDLE(cudnnCreateFilterDescriptor)
MAKES_HANDLE(cudnnCreateLRNDescriptor)
MAKES_HANDLE(cudnnCreatePoolingDescriptor)
MAKES_HANDLE(cudnnCreateRNNDataDescriptor)
MAKES_HANDLE(cudnnCreateRNNDescriptor)
MAKES_HANDLE(cudnnCreateReduceTensorDescriptor)
MAKES_HANDLE(cudnnCreateTensorDescriptor)
SUCCEEDS(cudnnDestroyActivationDescriptor)
SUCCEEDS(cudnnDestroyConvolutionDescriptor)
SUCCEEDS(cudnnDestroyDropoutDescriptor)
SUCCEEDS(cudnnDestroyFilterDescriptor)
SUCCEEDS(cudnnDestroyLRNDescriptor)
SUCCEEDS(cudnnDestroyPoolingDescriptor)
SUCCEEDS(cudnnDestroyRNNDataDescriptor)
SUCCEEDS(cudnnDestroyRNNDescriptor)
SUCCEEDS(cudnnDestroyReduceTensorDescriptor)
SUCCEEDS(cudnnDestroyTensorDescriptor)

SUCCEEDS(cudnnDeriveBNTensorDescriptor)
SUCCEEDS(cudnnDropoutGetStatesSize)
SUCCEEDS(cudnnFindConvolutionForwardAlgorithmEx)
SUCCEEDS(cudnnGetConvolutionForwardWorkspaceSize)
SUCCEEDS(cudnnGetRNNTempSpaceSizes)
SUCCEEDS(cudnnGetRNNWeightParams)
SUCCEEDS(cudnnGetTensorNdDescriptor)
SUCCEEDS(cudnnSetActivationDescriptor)
SUCCEEDS(cudnnSetConvolutionGroupCount)
SUCCEEDS(cudnnSetConvolutionMathType)
SUCCEEDS(cudnnSetConvolutionNdDescriptor)
SUCCEEDS(cudnnSetDropoutDescriptor)
SUCCEEDS(cudnnSetFilterNdDescriptor)
SUCCEEDS(cudnnSetLRNDescriptor)
SUCCEEDS(cudnnSetPoolingNdDescriptor)
SUCCEEDS(cudnnSetRNNDataDescriptor)
SUCCEEDS(cudnnSetReduceTensorDescriptor)
SUCCEEDS(cudnnSetTensorNdDescriptor)

EXPORT int cudnnGetReductionIndicesSize(void *handle, void *reduction, void *a, void *b, size_t *bytes) {
    (void)handle, (void)reduction, (void)a, (void)b;
    *bytes = 0;
    return 0;
}

EXPORT int cudnnGetReductionWorkspaceSize(void *handle, void *reduction, void *a, void *b, size_t *bytes) {
    (void)handle, (void)reduction, (void)a, (void)b;
    *bytes = 1024;
    return 0;
}
