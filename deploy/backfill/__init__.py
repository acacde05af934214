"""Keys that were in Redis before their functions: found by SCAN, and brought to SQL like any change."""
