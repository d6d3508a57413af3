"""Other projects' weights: files read and written, names translated to ours."""
