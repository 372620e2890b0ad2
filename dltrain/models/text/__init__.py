"""Models of sequences: texts, series, word vectors."""
