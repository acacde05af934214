"""From changes to rows, and to one SQL transaction: what all hosts share."""
