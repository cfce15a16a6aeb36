"""`megatron-nlg bench ladder`: what each step from plain fp32 to parallel training gains, rung by rung."""
