"""The only place that knows a path, a file format or a line of SQL of the lake."""
