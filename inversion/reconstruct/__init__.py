"""Somebody's own pictures, of any size, through trained runs."""
