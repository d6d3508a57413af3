"""Figures: predictions and training curves."""
