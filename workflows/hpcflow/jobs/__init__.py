"""Jobs, the graph they form, the scripts they become and the directory that keeps them."""
