"""What `rtwidgets demo` shows: real data, replayed."""
