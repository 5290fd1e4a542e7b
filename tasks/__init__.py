"""Verbs: what a flow does, one file each."""

from compiled import key_cache

key_cache()
