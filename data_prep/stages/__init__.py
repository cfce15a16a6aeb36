"""The stages of a preparation, one file each, in the order they run in."""
