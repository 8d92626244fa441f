/* cuRAND: ONNX Runtime links against it, and calls nothing of it on the host. */
int card_has_no_curand;
