"""From YAML and axes to a list of trials and their cost."""
