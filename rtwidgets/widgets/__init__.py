"""Widgets: traits and frames over data and channels, and the tick that sends them to the page."""
