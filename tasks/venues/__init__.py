"""Venues: their frames in, books, trades and changes of coverage out."""
