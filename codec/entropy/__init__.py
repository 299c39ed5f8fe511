"""From tokens to bytes in exact integers: range coder, tables, integer networks."""
