"""Checkpoints read from where they lie: headers first, then the selected tensors, by ranges of bytes."""
