"""``python -m gears.worker``."""

from __future__ import annotations

import logging
import os

from gears.worker.process import main

if __name__ == "__main__":
    code = main()
    # Threads that hang in a database must not hold the process; what they have open is rolled back.
    logging.shutdown()
    os._exit(code)
