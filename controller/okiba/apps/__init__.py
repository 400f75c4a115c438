"""Processes: what the world starts. Wiring is done here and nowhere else."""
