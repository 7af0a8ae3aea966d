"""The widgets: a traitlets face on data plus channel, and the tick that sends to the browser."""
