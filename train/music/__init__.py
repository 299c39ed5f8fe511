"""Research on the music model: a coder of fixed rules, measured against Opus."""
