"""The typed config tree: strict sections, YAML files, dotted overrides, every problem reported at once."""
