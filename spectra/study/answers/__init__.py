"""The answers to the questions of a study: one file per question, each a function of tables alone."""
