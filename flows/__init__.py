"""When things happen, and in what order.  No logic, no SQL."""
