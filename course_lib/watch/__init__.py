"""What a loop that is not ours needs to be looked at: to come."""
