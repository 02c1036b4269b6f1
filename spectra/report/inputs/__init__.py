"""What lies on disk, as tables."""
