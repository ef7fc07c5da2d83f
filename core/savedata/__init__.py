"""What of an identity outlives its process, and the file format in which clients exchange it."""
