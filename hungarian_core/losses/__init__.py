"""Losses between sets: match first, then compare the matched pairs."""
