"""Nouns and decisions: standard library only, no I/O, `now` is an argument."""
