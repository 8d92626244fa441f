"""A face in a conversation: it listens, speaks, idles and can be interrupted."""
