"""What a step trains on: blended datasets on Megatron-core's, and a loader whose only state is `consumed_samples`."""
