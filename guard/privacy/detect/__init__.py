"""Recognize personal data in names and values. Pure but for `engine`, which alone imports Presidio."""
