"""Matrices and linear operators in, tensors out: no file, model, logger or clock is known here."""
