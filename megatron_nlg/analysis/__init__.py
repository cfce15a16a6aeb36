"""What models know and how they hold it: activations of every block, their geometry, probes on them."""
