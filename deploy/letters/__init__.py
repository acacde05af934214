"""Dead letters: read, shown, exported, retried."""
