"""Files on shared storage: publishing, stripes, staging."""
