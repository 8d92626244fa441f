"""The whole training of the next demo model in minutes, on a GPU that is lent for that long.

``python -m training.borrowed``. Stages have budgets in seconds, not in steps: a learning rate follows the clock.
Everything that a stage needs lies in the GPU's memory.
"""

PRESET = "demo256"
"""What is trained."""
