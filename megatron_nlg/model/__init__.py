"""The network: a run config becomes this rank's chunks of Megatron-core's GPTModel."""
