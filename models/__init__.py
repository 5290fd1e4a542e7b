"""Learning from arrays: labels, splits, training, judging, scoring.  Knows no venue and no file."""
