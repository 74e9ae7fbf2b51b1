"""Private names of libraries, for speed."""
