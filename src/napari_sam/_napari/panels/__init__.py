"""The dock's panels: each shows values and tells what the person asks for; none knows the viewer."""
