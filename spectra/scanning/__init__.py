"""All measures of a checkpoint in one pass: settings, groups of measures, null controls, journal, comparison."""
