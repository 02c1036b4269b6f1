"""All metrics of a checkpoint in one pass: settings, groups of metrics, controls, journal, comparison."""
