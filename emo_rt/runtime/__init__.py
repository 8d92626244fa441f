"""What makes clips: an opened model, and everything between a sound and finished frames."""
