"""What is made once and kept: programs built from their sources, images packed without a registry."""
