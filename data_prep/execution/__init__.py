"""How the units of a stage are run: in this process, on all cores, or on a cluster. No output depends on it."""
