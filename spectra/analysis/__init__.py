"""From a matched pair of checkpoints to one row per matrix: methods, factor cache, scan."""
