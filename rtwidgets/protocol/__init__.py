"""Supabase Realtime's protocol without I/O: bytes in, events out; time is a parameter."""
