"""One trial from weights to rows."""
