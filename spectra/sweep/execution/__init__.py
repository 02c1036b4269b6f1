"""Who works on which trial, and what happens when one dies."""
