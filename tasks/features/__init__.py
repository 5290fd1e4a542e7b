"""What books and trades say: a catalogue of features, and the one fold that computes them."""
