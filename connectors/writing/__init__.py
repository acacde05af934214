"""Rows on their way into a database: in what order, by which statements, and what if one is refused."""
