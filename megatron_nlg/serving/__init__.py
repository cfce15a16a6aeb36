"""A model over HTTP, as OpenAI's clients speak it."""
