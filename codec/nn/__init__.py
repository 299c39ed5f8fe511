"""What networks of every modality share: state of streams, transforms, number formats."""
