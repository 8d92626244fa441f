"""What computes: buffers, streams and graphs of each backend, behind one interface."""
