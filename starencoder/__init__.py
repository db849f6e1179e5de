"""What an encoder is: its configuration, model, tokenizer, checkpoints and source packages."""
