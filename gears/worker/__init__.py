"""The worker beside Redis, of the module host: ``python -m gears.worker``."""
