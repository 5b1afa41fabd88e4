"""What runs where and when."""
