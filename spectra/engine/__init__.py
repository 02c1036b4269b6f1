"""One tuned matrix against one W0: its leading vectors, and which vectors of W0 they resemble. Knows no checkpoint."""
