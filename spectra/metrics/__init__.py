"""Numbers from matrices: one file per published concept, with its formula and its source."""
