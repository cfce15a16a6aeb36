"""What the studies of a trained model share: units of work, resumable rows, intervals, ranks, figures."""
