"""What endangers the data that passes through gearsync: one module for each area that is looked at."""
