"""What a run does beside training: one file each, told of events by the trainer (`base.Callback`)."""
