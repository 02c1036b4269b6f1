"""What can be known before anything is trained: what would fail, and what the rest will cost."""
