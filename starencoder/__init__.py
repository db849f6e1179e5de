"""What an encoder is: configuration, model, tokenizer, checkpoints, and the sources it learns from."""
