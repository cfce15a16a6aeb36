"""`megatron-nlg prep example FOLDER`: raw files of every format to try all stages on."""
