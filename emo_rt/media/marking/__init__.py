"""Marks that say that a video was made by a machine: watermark, visible label, signed metadata; and reading them."""
