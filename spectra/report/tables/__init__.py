"""The tables of a page: numbers, formats, summary statistics."""
