/* Graphs: what was captured, in its order. driver, "Graph Management". An executable graph is the graph itself. */
#define _GNU_SOURCE
#include "card.h"

#include <stdlib.h>

Graph *card_new_graph(void) {
    Graph *graph = calloc(1, sizeof *graph);
    graph->references = 1;
    return graph;
}

void card_release_graph(Graph *graph) {
    card_lock();
    if (--graph->references == 0) {
        free(graph->nodes);
        free(graph);
    }
    card_unlock();
}

void card_append(Graph *graph, const Node *node) {
    if (graph->count == graph->room) {
        graph->room = graph->room ? 2 * graph->room : 64;
        graph->nodes = realloc(graph->nodes, graph->room * sizeof *graph->nodes);
    }
    graph->nodes[graph->count++] = *node;
}

EXPORT CUresult cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, unsigned long long flags) {
    (void)flags;
    RETURN_WITHOUT_CONTEXT();
    card_lock();
    graph->references++;
    card_unlock();
    *executable = graph;
    return CUDA_SUCCESS;
}

/* CUDA_GRAPH_INSTANTIATE_PARAMS. */
typedef struct {
    uint64_t flags;
    Stream *upload_stream;
    void *failed_node;
    int result;
} InstantiateParams;

EXPORT CUresult cuGraphInstantiateWithParams(Graph **executable, Graph *graph, InstantiateParams *params) {
    params->result = 0;
    return cuGraphInstantiateWithFlags(executable, graph, params->flags);
}

EXPORT CUresult cuGraphUpload(Graph *executable, Stream *stream) {
    (void)executable, (void)stream;
    RETURN_WITHOUT_CONTEXT();
    return CUDA_SUCCESS;
}

/* Into a stream that is being captured it becomes a part of that capture. */
EXPORT CUresult cuGraphLaunch(Graph *executable, Stream *stream) {
    RETURN_WITHOUT_CONTEXT();
    card_add(COUNT_GRAPH_LAUNCHES, 1);
    for (size_t i = 0; i < executable->count; i++) {
        CUresult status = card_enqueue(stream, executable->nodes[i]);
        if (status) return status;
    }
    return CUDA_SUCCESS;
}

/* What was captured does not change any more, so a copy is the graph itself. */
EXPORT CUresult cuGraphClone(Graph **clone, Graph *graph) { return cuGraphInstantiateWithFlags(clone, graph, 0); }

EXPORT CUresult cuGraphDestroy(Graph *graph) {
    card_release_graph(graph);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphExecDestroy(Graph *executable) {
    card_release_graph(executable);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphGetNodes(Graph *graph, void **nodes, size_t *count) {
    if (!nodes) *count = graph->count;
    return nodes ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS;
}

/* User objects keep Python objects alive as long as a graph; the card calls none of them back. */
EXPORT CUresult cuUserObjectCreate(void **made, void *object, void (*destroy)(void *), unsigned count, unsigned flags) {
    (void)object, (void)destroy, (void)count, (void)flags;
    static char one;
    *made = &one;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuUserObjectRelease(void *object, unsigned count) {
    (void)object, (void)count;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphRetainUserObject(Graph *graph, void *object, unsigned count, unsigned flags) {
    (void)graph, (void)object, (void)count, (void)flags;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphReleaseUserObject(Graph *graph, void *object, unsigned count) {
    (void)graph, (void)object, (void)count;
    return CUDA_SUCCESS;
}
