"""What training and the search minimise."""
