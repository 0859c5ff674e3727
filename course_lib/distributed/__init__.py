"""One run on many processes: who they are, and which part of the weights each holds."""
