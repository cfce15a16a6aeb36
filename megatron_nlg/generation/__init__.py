"""Text from a run's model, under any layout."""
