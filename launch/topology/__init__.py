"""The real fabric, read from whatever a cluster can print: one file a format, one `Topology` out of each."""
