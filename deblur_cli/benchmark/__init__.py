"""What a photo costs on this machine."""
