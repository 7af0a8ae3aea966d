"""The widgets: a traitlets face on data plus channel, and the pump that sends to the browser."""
