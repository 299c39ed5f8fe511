"""Media to training items: files, caches, crops, augmentation, shards of tokens."""
