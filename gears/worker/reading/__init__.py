"""Read-through: rows are brought to the clients that wait for them."""
