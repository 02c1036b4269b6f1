"""Training: the same path for full fine-tuning and every adapter method."""
