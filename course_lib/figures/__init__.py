"""Pictures of runs and of studies: one file for each kind, none for a notebook."""
