"""OpenAI's APIs for files and batches."""
