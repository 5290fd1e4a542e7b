"""Learning from arrays: labels, splits, training, judging, scoring.  Knows no venue and no file."""

from compiled import key_cache

key_cache()
