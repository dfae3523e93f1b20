"""Items: what people contribute, how it is checked, kept and read."""
