"""Checkpoints to ONNX, and scans of parquet shards."""
