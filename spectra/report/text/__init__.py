"""The sentences of a page: findings, warnings, definitions."""
