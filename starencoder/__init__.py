"""What an encoder is: configuration, model, tokenizer, checkpoints, and where its code comes from."""
