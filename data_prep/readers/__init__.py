"""Raw files to documents, one file a format. What can't be read is reported, and reading goes on."""
