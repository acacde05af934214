"""Write-around: rows that others change in SQL reach Redis."""
