"""The chart, rendered by helm itself: what values do, what is refused, and what a real API server says to it."""
