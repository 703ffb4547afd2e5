"""The presentation tier: pages, and all else that a visitor gets to see. Knows no SQL."""
