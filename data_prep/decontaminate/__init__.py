"""Evaluation examples found in documents by their word n-grams, and cut out."""
