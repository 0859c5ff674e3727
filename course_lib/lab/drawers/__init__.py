"""The lab's further controls, each in a drawer of its own."""
