"""Training: local motion blur made from sharp photos, losses, and the loop."""
