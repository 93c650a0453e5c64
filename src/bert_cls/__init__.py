"""bert-cls: a labelled JSON file becomes a BERT text classifier."""
