"""`megatron-nlg verify`: one config in many layouts, held against one reference."""
