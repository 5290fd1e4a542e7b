"""The shells around the flows: servers up and down, and the doctor."""
