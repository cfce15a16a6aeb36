"""The sample book: fixed prompts of several kinds, continued by several settings, comparable between checkpoints."""
