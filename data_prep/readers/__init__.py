"""Raw files to documents, one file a format."""
