"""Raw text to tokens: readers, cleaning, deduplication, tokenizers, Megatron's binary format, blends. No torch."""
