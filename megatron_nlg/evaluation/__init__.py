"""Judging a model: zero- and few-shot tasks, the HANS study, the social-bias study, sample books."""
