"""How W_tuned follows from W0 under each fine-tuning method."""
