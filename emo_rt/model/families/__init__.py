"""What differs between the families of checkpoints."""
