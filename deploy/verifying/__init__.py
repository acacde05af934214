"""Redis compared with SQL while writes go on: what differs, and what mends it."""
