"""Paired differences, contrasts and rank correlations with their intervals. Knows no file and no torch."""
