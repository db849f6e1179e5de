"""From text to spans to redacted text."""
