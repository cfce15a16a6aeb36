"""The HANS study: does a model read, or rely on overlap, or just like one answer?"""
