"""Runs under a reader's hands: branches, the thread that trains them, looking back. No widget."""
