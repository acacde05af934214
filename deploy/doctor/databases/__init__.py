"""The databases: what all have in common, and what each kind can be asked."""
