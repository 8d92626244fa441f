"""What makes our own small checkpoint. Not installed with the product."""
