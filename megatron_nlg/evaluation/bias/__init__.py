"""The studies of social bias: occupations, co-occurring words, their sentiment, and published sets."""
