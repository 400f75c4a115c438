"""Okiba (置き場): put a file into a bucket and your Python function runs."""
