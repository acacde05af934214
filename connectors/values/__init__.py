"""Values on their way to columns, and back to the texts of a hash."""
