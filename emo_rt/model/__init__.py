"""What a model is: its configuration, its bundle on disk and what its graphs take and give."""
