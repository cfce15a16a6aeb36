"""Encoders of transformers, fine-tuned beside this project's own classifiers."""
