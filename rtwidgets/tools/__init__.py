"""What a person runs against a project or the local server: doctor, tail, and the checks under them."""
